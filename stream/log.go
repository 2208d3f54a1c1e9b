package stream

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/telemetry"
)

// Config says which log to open. Only Brokers is needed.
type Config struct {
	// Brokers are bootstrap addresses, host:port.
	Brokers []string
	// Prefix of the two topics' names; "" is millrace.
	Prefix string
	// Partitions of a topic that Open creates; 0 is 8. Topics that exist keep theirs.
	Partitions int
	// Replication of a topic that Open creates; 0 leaves it to the broker.
	Replication int
	// ConnectTimeout bounds how long Open waits for a broker; 0 is five seconds.
	ConnectTimeout time.Duration
	Log            *slog.Logger // nil discards
	Events         Events
	// Options go to every Kafka client, after ours: a test's dialer, TLS, SASL.
	Options []kgo.Opt
}

// Log is an open log. It is safe for concurrent use.
type Log struct {
	config   Config
	client   *kgo.Client // for questions; producers, consumers and readers have their own
	admin    *kadm.Client
	readings *Topic
	dead     *Topic
	readers  chan struct{} // slots of bounded reads, see Topic.Follow
}

// maxReaders is how many bounded reads run at a time: each is a connection and
// a fetch buffer, and a hub may ask for thousands of them at once.
const maxReaders = 16

// Open connects to the log and creates its two topics where they are missing.
// It answers within ConnectTimeout if no broker can be reached: the error names
// the address and wraps [telemetry.ErrUnavailable]. Close the log after its
// producers and consumers.
func Open(ctx context.Context, c Config) (*Log, error) {
	c.Prefix = cmp.Or(c.Prefix, "millrace")
	c.Partitions = cmp.Or(c.Partitions, 8)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{config: c, readers: make(chan struct{}, maxReaders)}
	// A broker that accepts and then says nothing is given up in time, too.
	client, err := l.newClient(kgo.RequestTimeoutOverhead(c.ConnectTimeout))
	if err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	l.client, l.admin = client, kadm.NewClient(client)
	l.readings = &Topic{log: l, name: c.Prefix + ".readings"}
	l.dead = &Topic{log: l, name: c.Prefix + ".dead", dead: true}
	if err := l.open(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("stream: %w", err)
	}
	return l, nil
}

// Close lets go of the log's connections.
func (l *Log) Close() { l.client.Close() }

// Readings is the topic of what devices said.
func (l *Log) Readings() *Topic { return l.readings }

// Dead is the topic of what could not be accepted.
func (l *Log) Dead() *Topic { return l.dead }

// newClient makes a Kafka client with the options that all of ours share.
func (l *Log) newClient(opts ...kgo.Opt) (*kgo.Client, error) {
	all := append([]kgo.Opt{
		kgo.SeedBrokers(l.config.Brokers...),
		kgo.ClientID("millrace"),
		kgo.DialTimeout(l.config.ConnectTimeout),
		kgo.WithLogger(clientLogger{l.config.Log}),
		kgo.DisableClientMetrics(), // nobody asks for them, and each client would offer
		// A leader that moved is found within this time.
		kgo.MetadataMinAge(250 * time.Millisecond),
	}, opts...)
	return kgo.NewClient(append(all, l.config.Options...)...)
}

func (l *Log) open(ctx context.Context) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, createTimeout, errNoAnswer)
	defer cancel()
	for _, t := range []*Topic{l.readings, l.dead} {
		if err := l.create(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

var errNoAnswer = errors.New("no answer in time")

// createTimeout is how long a broker that answers may take for two topics.
const createTimeout = 30 * time.Second

// connect asks until a broker answers or the time is over: where everything
// starts at once, Kafka may come up after us.
func (l *Log) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.config.ConnectTimeout, errNoAnswer)
	defer cancel()
	said := false
	for {
		err := l.client.Ping(ctx)
		if err == nil {
			return nil
		}
		if !said && ctx.Err() == nil {
			said = true
			l.config.Log.Info("waiting for kafka", "brokers", l.config.Brokers, "err", err)
		}
		if !pause(ctx, 200*time.Millisecond) {
			return l.unreachable(ctx, err)
		}
	}
}

// unreachable is the sentence for a broker that cannot be reached.
func (l *Log) unreachable(ctx context.Context, err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) {
		err = dial
	} else if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
		err = cause
	}
	return fmt.Errorf("kafka %s: cannot connect: %w: is it running? (--kafka) (%w)",
		strings.Join(l.config.Brokers, ","), err, telemetry.ErrUnavailable)
}

// create makes the topic if it is missing, and waits until it can be used.
func (l *Log) create(ctx context.Context, t *Topic) error {
	replication := cmp.Or(int16(l.config.Replication), -1)
	made, err := l.admin.CreateTopic(ctx, int32(l.config.Partitions), replication, nil, t.name)
	if err == nil {
		err = made.Err
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", t.name, err)
	}
	for {
		about, err := t.describe(ctx)
		if err == nil {
			if about.partitions != l.config.Partitions {
				l.config.Log.Warn("the topic has another number of partitions than configured; using what there is",
					"topic", t.name, "partitions", about.partitions, "configured", l.config.Partitions)
			}
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return err
		}
	}
}

// pause waits for d and says whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// description is what a topic is now.
type description struct {
	log        uint64 // the topic id's first eight bytes
	partitions int
}

// describe asks what the topic is now. The answer is fresh: a topic deleted
// and made anew has another log.
func (t *Topic) describe(ctx context.Context) (description, error) {
	all, err := t.log.admin.ListTopics(ctx, t.name)
	if err != nil {
		return description{}, fmt.Errorf("describe topic %s: %w (%w)", t.name, err, telemetry.ErrUnavailable)
	}
	detail, ok := all[t.name]
	if !ok {
		return description{}, fmt.Errorf("describe topic %s: the broker does not answer for it", t.name)
	}
	if detail.Err != nil {
		return description{}, fmt.Errorf("describe topic %s: %w", t.name, detail.Err)
	}
	ids := detail.Partitions.Numbers()
	for i, id := range ids {
		if int(id) != i || detail.Partitions[id].Leader < 0 {
			return description{}, fmt.Errorf("describe topic %s: partition %d has no leader (%w)", t.name, id, telemetry.ErrUnavailable)
		}
	}
	if len(ids) == 0 {
		return description{}, fmt.Errorf("describe topic %s: it has no partitions", t.name)
	}
	return description{log: binary.BigEndian.Uint64(detail.ID[:8]), partitions: len(ids)}, nil
}

// offsets of all partitions, in their order. A partition whose leader is just
// moving is asked again.
func (t *Topic) offsets(ctx context.Context, partitions int,
	list func(context.Context, ...string) (kadm.ListedOffsets, error),
) ([]int64, error) {
	for try := 1; ; try++ {
		next, err := t.listed(ctx, partitions, list)
		if err == nil || !kerr.IsRetriable(err) || try == leaderTries {
			return next, err
		}
		t.log.client.ForceMetadataRefresh()
		if !pause(ctx, leaderPause) {
			return nil, ctx.Err()
		}
	}
}

// How often and after which time a partition that has no leader is asked again:
// longer than an election takes.
const (
	leaderTries = 20
	leaderPause = 250 * time.Millisecond
)

func (t *Topic) listed(ctx context.Context, partitions int,
	list func(context.Context, ...string) (kadm.ListedOffsets, error),
) ([]int64, error) {
	listed, err := list(ctx, t.name)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", err, telemetry.ErrUnavailable)
	}
	next := slices.Repeat([]int64{-1}, partitions)
	for id, o := range listed[t.name] {
		if o.Err != nil {
			return nil, fmt.Errorf("partition %d: %w (%w)", id, o.Err, telemetry.ErrUnavailable)
		}
		if int(id) < partitions {
			next[id] = o.Offset
		}
	}
	if i := slices.Index(next, -1); i >= 0 {
		return nil, fmt.Errorf("no answer for partition %d (%w)", i, telemetry.ErrUnavailable)
	}
	return next, nil
}
