package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"millrace/telemetry"
)

// Handler is what a [Consumer] works for. Its methods are never called
// concurrently by one consumer.
type Handler interface {
	// Claim is called after each rebalance with ALL partitions this process
	// holds now; those not named any more are let go. log is the topic's
	// identity ([telemetry.Cursor].Log). It answers for each partition, in
	// their order, the offset to go on at (-1: the earliest there is). What
	// the group has committed in Kafka is not asked. An error is retried.
	Claim(ctx context.Context, log uint64, partitions []int32) ([]int64, error)
	// Handle gets records in partition runs, each in offset order, and returns
	// when they are kept. The slice is used again; values share memory with
	// their fetch. An error that wraps [telemetry.ErrFenced] means that another
	// process has claimed a partition: the consumer gives all up and joins
	// anew. After any other error it is given the same records again. ctx ends
	// where a rebalance or the consumer's end cannot wait longer.
	Handle(ctx context.Context, records []telemetry.Record) error
}

// ConsumerConfig of a consumer. The zero value is good.
type ConsumerConfig struct {
	// MaxBatch is how many records Handle gets at most; 0 is 50,000.
	MaxBatch int
	// Session is how long a process may be silent before its partitions go to
	// another; 0 is ten seconds. Kafka's own lower bound is six.
	Session time.Duration
	// Grace is how long a rebalance or the end waits for Handle before its
	// context ends; 0 is five seconds.
	Grace time.Duration
}

// Consumer hands a topic's records to a [Handler], sharing the partitions with
// the other consumers of its group. While the handler works, the next fetch
// goes on.
type Consumer struct {
	topic   *Topic
	group   string
	handler Handler
	config  ConsumerConfig
	log     *slog.Logger
	events  *Events
}

// NewConsumer makes a consumer of the topic. Nothing happens before Run.
func NewConsumer(t *Topic, group string, h Handler, c ConsumerConfig) *Consumer {
	c.MaxBatch = cmp.Or(c.MaxBatch, 50_000)
	c.Session = cmp.Or(c.Session, 10*time.Second)
	c.Grace = cmp.Or(c.Grace, 5*time.Second)
	return &Consumer{
		topic: t, group: group, handler: h, config: c,
		log:    t.log.config.Log.With("topic", t.name, "group", group),
		events: &t.log.config.Events,
	}
}

// Run consumes until ctx ends, then lets the handler finish what it has, leaves
// the group and answers nil. It gets over whatever Kafka and the handler get
// over. It ends with an error only where going on would hide a loss: when the
// handler's offset is beyond the log's end.
//
// It may be called once.
func (c *Consumer) Run(ctx context.Context) error {
	wait := backoff{}
	for ctx.Err() == nil {
		err := c.session(ctx)
		var lost *lostError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &lost):
			return fmt.Errorf("stream: %s: %w", c.topic.name, err)
		case errors.Is(err, telemetry.ErrFenced):
			c.log.Warn("another process has claimed a partition; joining the group anew", "err", err)
		default:
			c.log.Warn("leaving the group and joining anew", "err", err)
		}
		c.events.retried(c.topic.name, c.group, err)
		if !wait.pause(ctx) {
			return nil
		}
	}
	return nil
}

// lostError says that the log ends before what the handler has already seen.
type lostError struct {
	partition  int32
	seen, ends int64
}

func (e *lostError) Error() string {
	return fmt.Sprintf("partition %d: records up to offset %d were handled already, but the log ends at %d: "+
		"it has lost records, and new ones would be taken for old; restore the log, or start with a new one",
		e.partition, e.seen, e.ends)
}

// backoff is a pause that grows from 100 ms to 5 s, with jitter so that
// processes do not knock at the same time.
type backoff struct{ last time.Duration }

func (b *backoff) pause(ctx context.Context) bool { return pause(ctx, b.next()) }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, 100*time.Millisecond), 5*time.Second)
	return b.last/2 + rand.N(b.last/2)
}
