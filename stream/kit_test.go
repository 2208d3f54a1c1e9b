package stream_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/stream"
	"millrace/telemetry"
)

// log opens a log for the test, and closes it at its end.
func openLog(t testing.TB, c stream.Config) *stream.Log {
	t.Helper()
	l, err := stream.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// newProducer makes a producer that is closed at the test's end.
func newProducer(t testing.TB, l *stream.Log, c stream.ProducerConfig) *stream.Producer {
	t.Helper()
	p, err := stream.NewProducer(l, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(ended(t)) })
	return p
}

// ended is a context that has ended: closing with it does not wait.
func ended(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cancel()
	return ctx
}

// entry is the n-th reading of a device. Its value is unique.
func entry(device string, n int) telemetry.Entry {
	at := time.Date(2026, 11, 21, 22, 0, 0, n%1_000_000*1000, time.UTC)
	value := fmt.Sprintf(`{"device":"%s","time":"%s","values":{"n":%d,"speed":61.2}}`, device, telemetry.AppendTime(nil, at), n)
	return telemetry.Entry{Device: device, Value: []byte(value), Received: time.Now().UTC().Truncate(time.Microsecond)}
}

// result is what a done was told.
type result struct {
	position telemetry.Position
	err      error
}

// appends waits for dones and counts their calls.
type appends struct {
	mu      sync.Mutex
	results map[int][]result
	wait    sync.WaitGroup
}

func (a *appends) done(i int) func(telemetry.Position, error) {
	a.wait.Add(1)
	return func(p telemetry.Position, err error) {
		a.mu.Lock()
		if a.results == nil {
			a.results = make(map[int][]result)
		}
		a.results[i] = append(a.results[i], result{p, err})
		a.mu.Unlock()
		a.wait.Done() // panics when called too often
	}
}

func (a *appends) failed() (failed int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.results {
		if r[0].err != nil {
			failed++
			err = r[0].err
		}
	}
	return failed, err
}

// fill appends n readings of each device and waits until all are kept.
func fill(t testing.TB, p *stream.Producer, n int, devices ...string) {
	t.Helper()
	var a appends
	for i := range n {
		for d, device := range devices {
			p.Append(t.Context(), entry(device, i), a.done(i*len(devices)+d))
		}
	}
	a.wait.Wait()
	if failed, err := a.failed(); failed > 0 {
		t.Fatalf("%d appends failed: %v", failed, err)
	}
}

// readAll reads a topic from its first record to its last.
func readAll(t testing.TB, topic *stream.Topic) []telemetry.Record {
	t.Helper()
	first, next, err := topic.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return read(t, topic, first, next)
}

func read(t testing.TB, topic *stream.Topic, from, to telemetry.Cursor) []telemetry.Record {
	t.Helper()
	var all []telemetry.Record
	if err := topic.Follow(t.Context(), from, to, func(records []telemetry.Record) error {
		all = append(all, records...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// checkOrder says whether the records are in offset order by partition, and
// each device's readings 0 to n-1 are there, in order, each once.
func checkOrder(records []telemetry.Record, n int, devices ...string) error {
	offsets := make(map[int32]int64)
	seen := make(map[string]int)
	for _, r := range records {
		if last, ok := offsets[r.Partition]; ok && r.Offset <= last {
			return fmt.Errorf("partition %d: offset %d behind %d", r.Partition, r.Offset, last)
		}
		offsets[r.Partition] = r.Offset
		if want := fmt.Sprintf(`"n":%d,`, seen[r.Device]); !strings.Contains(string(r.Value), want) {
			return fmt.Errorf("device %s: %s instead of %s", r.Device, r.Value, want)
		}
		seen[r.Device]++
	}
	for _, device := range devices {
		if seen[device] != n {
			return fmt.Errorf("device %s has %d readings instead of %d", device, seen[device], n)
		}
	}
	return nil
}

// table is a handler that behaves like the sink: one row for each partition,
// with the next offset and an epoch that every claim bumps. Several shelves
// share one table.
type table struct {
	mu      sync.Mutex
	next    map[int32]int64
	epoch   map[int32]int
	records []telemetry.Record
	changed chan struct{} // closed and replaced with each change
}

func newTable() *table {
	return &table{next: make(map[int32]int64), epoch: make(map[int32]int), changed: make(chan struct{})}
}

func (tb *table) change() {
	close(tb.changed)
	tb.changed = make(chan struct{})
}

// wait waits until the table is as ok wants it.
func (tb *table) wait(t testing.TB, what string, ok func(*table) bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		tb.mu.Lock()
		is, changed := ok(tb), tb.changed
		tb.mu.Unlock()
		if is {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("not in a minute: %s", what)
		}
	}
}

func has(n int) func(*table) bool { return func(tb *table) bool { return len(tb.records) >= n } }

func (tb *table) sorted() []telemetry.Record {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	all := slices.Clone(tb.records)
	slices.SortFunc(all, func(a, b telemetry.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all
}

// shelf is one process's handler.
type shelf struct {
	*table
	held map[int32]int // partition to epoch, as of the last claim
	logs []uint64
	// fault, if set, may fail a batch before it is kept.
	fault func([]telemetry.Record) error
	// claimed, if set, is told each claim.
	claimed func([]int32)
}

func (s *shelf) Claim(_ context.Context, log uint64, partitions []int32) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.change()
	s.held = make(map[int32]int)
	s.logs = append(s.logs, log)
	offsets := make([]int64, len(partitions))
	for i, p := range partitions {
		s.epoch[p]++
		s.held[p] = s.epoch[p]
		next, ok := s.next[p]
		if !ok {
			next = -1
		}
		offsets[i] = next
	}
	if s.claimed != nil {
		s.claimed(partitions)
	}
	return offsets, nil
}

var errHole = errors.New("a hole or a repetition")

func (s *shelf) Handle(_ context.Context, records []telemetry.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.change()
	if s.fault != nil {
		if err := s.fault(records); err != nil {
			return err
		}
	}
	next := make(map[int32]int64)
	for _, r := range records {
		if s.held[r.Partition] != s.epoch[r.Partition] {
			return fmt.Errorf("partition %d: %w", r.Partition, telemetry.ErrFenced)
		}
		at, ok := next[r.Partition]
		if !ok {
			at, ok = s.next[r.Partition]
		}
		if ok && at != r.Offset {
			return fmt.Errorf("partition %d: offset %d instead of %d: %w", r.Partition, r.Offset, at, errHole)
		}
		next[r.Partition] = r.Offset + 1
	}
	for p, n := range next {
		s.next[p] = n
	}
	for _, r := range records {
		r.Value = slices.Clone(r.Value)
		s.records = append(s.records, r)
	}
	return nil
}

// consume runs a consumer until the test ends or stop is called; stop waits.
func consume(t testing.TB, topic *stream.Topic, group string, h stream.Handler, c stream.ConsumerConfig) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- stream.NewConsumer(topic, group, h, c).Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("consumer: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// counter is a handler that only counts.
type counter struct {
	mu             sync.Mutex
	batches, count int
	want           int
	enough         chan struct{}
}

func (c *counter) Claim(_ context.Context, _ uint64, partitions []int32) ([]int64, error) {
	return slices.Repeat([]int64{-1}, len(partitions)), nil
}

func (c *counter) Handle(_ context.Context, records []telemetry.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches++
	if c.count += len(records); c.count == c.want {
		close(c.enough)
	}
	return nil
}
