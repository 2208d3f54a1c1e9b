package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/telemetry"
)

// session is one membership in the group: a Kafka client, from joining to
// leaving.
//
// Kafka's own scheme, poll then commit, cannot be used: start offsets come from
// the handler's database, and a batch polled before a rebalance must not be
// handled after the claim behind it, because the claim makes Kafka deliver it
// again. So time is cut into terms by rebalances, every poll belongs to one,
// and a term's end waits for its batch and drops what comes too late.
type session struct {
	*Consumer
	client  *kgo.Client
	decoder *decoder
	batch   []telemetry.Record
	term    atomic.Pointer[term]
	// ctx ends with the session; the Kafka client's callbacks come with contexts
	// that do not.
	ctx context.Context
	// fail ends the session with an error.
	fail context.CancelCauseFunc
}

// term is the time between two rebalances.
type term struct {
	ctx    context.Context // ends when the handler cannot be waited for any longer
	cancel context.CancelFunc
	over   chan struct{} // closed when no more batch may be begun
	// busy is held while a batch of this term is handled or committed. It
	// protects marks and committed.
	busy      sync.Mutex
	marks     map[int32]kgo.EpochOffset // handled and not yet committed
	committed time.Time
}

func newTerm(ctx context.Context) *term {
	t := &term{over: make(chan struct{}), marks: make(map[int32]kgo.EpochOffset), committed: time.Now()}
	// The handler may finish its batch when the consumer ends: see session.end.
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return t
}

// session joins the group and works until ctx ends (nil) or it must be left.
func (c *Consumer) session(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &session{Consumer: c, decoder: newDecoder(c.topic.dead), ctx: ctx, fail: fail}
	s.term.Store(newTerm(ctx))
	var err error
	if s.client, err = c.topic.log.newClient(s.options()...); err != nil {
		return err
	}
	defer s.client.CloseAllowingRebalance()
	settled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(settled)
		s.commit(ctx, s.end(ctx, c.config.Grace))
	})
	defer func() {
		if !stop() {
			<-settled
		}
	}()
	for ctx.Err() == nil {
		fetches, t := s.poll(ctx)
		if ctx.Err() != nil {
			break
		}
		if err := s.work(ctx, t, fetches); err != nil {
			return err
		}
		if err := s.failure(ctx, fetches); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// poll waits for records, at most until something must be committed, and
// answers the term they belong to.
func (s *session) poll(ctx context.Context) (kgo.Fetches, *term) {
	ctx, cancel := context.WithTimeout(ctx, commitEvery)
	defer cancel()
	fetches := s.client.PollRecords(ctx, s.config.MaxBatch)
	t := s.term.Load() // exact: a rebalance waits for AllowRebalance
	s.client.AllowRebalance()
	return fetches, t
}

func (s *session) options() []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(s.group),
		kgo.ConsumeTopics(s.topic.name),
		// An eager balancer: at each rebalance all is revoked and claimed anew,
		// which is what Claim promises.
		kgo.Balancers(kgo.StickyBalancer()),
		kgo.SessionTimeout(s.config.Session),
		kgo.HeartbeatInterval(s.config.Session / 4),
		kgo.RebalanceTimeout(2*s.config.Grace + s.config.Session),
		kgo.AdjustFetchOffsetsFn(s.claim),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, _ map[string][]int32) {
			s.commit(ctx, s.end(ctx, s.config.Grace))
		}),
		kgo.OnPartitionsLost(func(ctx context.Context, _ *kgo.Client, _ map[string][]int32) { s.end(ctx, 0) }),
		kgo.BlockRebalanceOnPoll(),
		kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxPartitionBytes(4 << 20),
		kgo.FetchMaxBytes(fetchAll),
		kgo.FetchMaxWait(fetchWait),
	}
}

// end ends the term: no batch of it is begun any more, and one that is being
// handled has the time of grace. It answers what is left to commit.
func (s *session) end(ctx context.Context, grace time.Duration) map[int32]kgo.EpochOffset {
	t := s.term.Swap(newTerm(ctx))
	close(t.over)
	timer := time.AfterFunc(grace, t.cancel)
	t.busy.Lock() // waits for the batch
	defer t.busy.Unlock()
	timer.Stop()
	t.cancel()
	return t.marks
}

// How often handled offsets are committed, and how long that may take.
const (
	commitEvery = time.Second
	commitLimit = 2 * time.Second
)

// commit tells Kafka how far the handler is, for tools that show lag. It is a
// hint, and what fails is committed by the next.
func (s *session) commit(ctx context.Context, marks map[int32]kgo.EpochOffset) {
	if len(marks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
	defer cancel()
	s.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.topic.name: marks}, nil)
}

// assigned is told the assignment. Where there is none, nothing is fetched and
// claim not called, but the handler must let go.
func (s *session) assigned(ctx context.Context, _ *kgo.Client, added map[string][]int32) {
	if len(added[s.topic.name]) > 0 {
		return
	}
	if _, err := s.claim(ctx, nil); err != nil && ctx.Err() == nil {
		s.fail(err)
	}
}

// claim asks the handler where to go on. The Kafka client calls it at the
// beginning of each term, and fetches when it has the answer.
func (s *session) claim(ctx context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	partitions := make([]int32, 0, len(committed[s.topic.name]))
	for p := range committed[s.topic.name] {
		partitions = append(partitions, p)
	}
	slices.Sort(partitions)
	wait := backoff{}
	for {
		start, err := s.claimOnce(ctx, partitions)
		var lost *lostError
		if err == nil {
			s.events.claimed(s.topic.name, s.group, len(partitions))
			s.log.Info("partitions claimed", "partitions", partitions)
			return map[string]map[int32]kgo.Offset{s.topic.name: start}, nil
		}
		if errors.As(err, &lost) {
			s.fail(err)
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.events.retried(s.topic.name, s.group, err)
		s.log.Warn("cannot claim partitions; trying again", "partitions", partitions, "err", err)
		if !wait.pause(ctx) {
			return nil, ctx.Err()
		}
	}
}

func (s *session) claimOnce(ctx context.Context, partitions []int32) (map[int32]kgo.Offset, error) {
	first, next, err := s.topic.Bounds(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := s.handler.Claim(ctx, first.Log, partitions)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	if len(answer) != len(partitions) {
		return nil, fmt.Errorf("claim: %d offsets for %d partitions", len(answer), len(partitions))
	}
	start := make(map[int32]kgo.Offset, len(partitions))
	for i, p := range partitions {
		at := answer[i]
		switch {
		case int(p) >= len(first.Next):
			return nil, fmt.Errorf("partition %d is not in the log's answer", p)
		case at > next.Next[p]:
			if err := s.reaches(ctx, first.Log, p, at); err != nil {
				return nil, err
			}
		case at >= 0 && at < first.Next[p]:
			s.skipped(p, at, first.Next[p])
		}
		start[p] = kgo.NewOffset().At(max(at, first.Next[p]))
	}
	return start, nil
}

// errLogChanged says that a claim was answered for a log that is not there any more.
var errLogChanged = errors.New("the log has become another one during the claim")

// reaches says whether the log goes as far as a claimed offset that is beyond its
// end from before the claim: the last owner may have kept more meanwhile. The end
// is asked anew, for only one from behind the claim can tell a loss.
func (s *session) reaches(ctx context.Context, log uint64, partition int32, at int64) error {
	_, next, err := s.topic.Bounds(ctx)
	switch {
	case err != nil:
		return err
	case next.Log != log || int(partition) >= len(next.Next):
		return errLogChanged
	case at > next.Next[partition]:
		return &lostError{partition: partition, seen: at, ends: next.Next[partition]}
	}
	return nil
}

// skipped says that records were removed before the handler saw them: a reader
// was away longer than the log keeps, and somebody must know.
func (s *session) skipped(partition int32, from, to int64) {
	s.log.Error("retention has removed records that were not handled; going on at the first there is",
		"partition", partition, "records", to-from, "from", from, "to", to)
	s.events.skipped(s.topic.name, s.group, partition, to-from)
}

// work hands one poll's records to the handler, and commits from time to time.
// While busy is held, no rebalance can begin: a commit never waits for one.
func (s *session) work(ctx context.Context, t *term, fetches kgo.Fetches) error {
	marks := s.decode(fetches)
	t.busy.Lock()
	defer t.busy.Unlock()
	if len(s.batch) > 0 {
		kept, err := s.handle(ctx, t)
		if err != nil {
			return err
		}
		if kept {
			maps.Copy(t.marks, marks)
		}
	}
	if !t.isOver() && time.Since(t.committed) >= commitEvery {
		s.commit(ctx, t.marks)
		clear(t.marks)
		t.committed = time.Now()
	}
	return nil
}

// handle hands s.batch to the handler, again and again until it has kept it
// (true), or the term is over or ctx ends. The caller holds t.busy.
func (s *session) handle(ctx context.Context, t *term) (kept bool, err error) {
	wait := backoff{}
	for !t.isOver() {
		began := time.Now()
		err := s.handler.Handle(t.ctx, s.batch)
		if err == nil {
			s.events.handled(s.topic.name, s.group, len(s.batch), time.Since(began))
			return true, nil
		}
		if errors.Is(err, telemetry.ErrFenced) {
			return false, err
		}
		if t.ctx.Err() != nil {
			break
		}
		s.events.retried(s.topic.name, s.group, err)
		s.log.Warn("cannot handle records; trying again", "records", len(s.batch), "err", err)
		if !t.pause(ctx, wait.next()) {
			break
		}
	}
	return false, nil
}

// isOver says whether no batch may be begun in this term any more.
func (t *term) isOver() bool {
	select {
	case <-t.over:
		return true
	default:
		return false
	}
}

// pause waits between two tries and says whether there shall be another.
func (t *term) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.over:
	case <-ctx.Done():
	}
	return false
}

// decode fills s.batch, and answers the offsets to commit behind it.
func (s *session) decode(fetches kgo.Fetches) map[int32]kgo.EpochOffset {
	clear(s.batch) // lets the last fetch's memory go
	s.batch = s.batch[:0]
	marks := make(map[int32]kgo.EpochOffset)
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		for _, r := range p.Records {
			s.batch = append(s.batch, s.decoder.decode(r))
		}
		last := p.Records[len(p.Records)-1]
		marks[p.Partition] = kgo.EpochOffset{Epoch: last.LeaderEpoch, Offset: last.Offset + 1}
		s.events.lag(s.topic.name, s.group, p.Partition, max(0, p.HighWatermark-last.Offset-1))
	})
	return marks
}

// failure is the error, if any, for which the group must be left and joined
// anew. The Kafka client gets over the others by itself.
func (s *session) failure(ctx context.Context, fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		var group *kgo.ErrGroupSession
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(e.Err, context.DeadlineExceeded) && e.Topic == "":
			continue // the poll's own limit
		case errors.As(e.Err, &group):
			s.log.Warn("the group is not well; the client joins again", "err", e.Err)
			s.events.retried(s.topic.name, s.group, e.Err)
		case errors.Is(e.Err, kerr.OffsetOutOfRange):
			return fmt.Errorf("partition %d: the log has moved on: %w", e.Partition, e.Err)
		default:
			return fmt.Errorf("partition %d: %w", e.Partition, e.Err)
		}
	}
	return nil
}
