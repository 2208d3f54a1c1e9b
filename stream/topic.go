package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/telemetry"
)

// Topic is one of the log's two topics. It is safe for concurrent use.
type Topic struct {
	log  *Log
	name string
	dead bool
}

// Name of the topic in Kafka.
func (t *Topic) Name() string { return t.name }

// Bounds are the cursors of the first record the topic still holds and of the
// next one it will get. Cursor.Log is the first eight bytes of Kafka's topic
// id: a topic deleted and made anew is another log.
func (t *Topic) Bounds(ctx context.Context) (first, next telemetry.Cursor, err error) {
	about, err := t.describe(ctx)
	if err != nil {
		return first, next, fmt.Errorf("stream: %w", err)
	}
	first.Log, next.Log = about.log, about.log
	if first.Next, err = t.offsets(ctx, about.partitions, t.log.admin.ListStartOffsets); err != nil {
		return first, next, fmt.Errorf("stream: first offsets of %s: %w", t.name, err)
	}
	if next.Next, err = t.offsets(ctx, about.partitions, t.log.admin.ListEndOffsets); err != nil {
		return first, next, fmt.Errorf("stream: next offsets of %s: %w", t.name, err)
	}
	return first, next, nil
}

// Follow hands over all records from one cursor to another: with to.Next nil
// for ever; else until all before to were handed over, waiting for those that
// are not there yet. It answers nil only then, and ctx's error if ctx ended
// before. Records come in partition runs, each in offset order. The slice is
// used again; the values share memory with their fetch: copy what is kept long.
// handle is called from the caller's goroutine; its error ends Follow and is
// answered as it is.
//
// The error wraps [telemetry.ErrGone] where from is not in this log, or not
// any more: another log or number of partitions, or records that retention has
// removed, before or while they were to be read.
//
// Bounded reads queue for a small number of slots, so that any number may be
// asked for at once.
func (t *Topic) Follow(ctx context.Context, from, to telemetry.Cursor, handle func([]telemetry.Record) error) error {
	bounded := to.Next != nil
	if bounded {
		select {
		case t.log.readers <- struct{}{}:
			defer func() { <-t.log.readers }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := t.check(ctx, from, to); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("stream: %w", err)
	}
	r := &reader{topic: t, decoder: newDecoder(t.dead), next: from.Clone().Next, to: to.Next, handle: handle}
	return r.run(ctx)
}

func (t *Topic) check(ctx context.Context, from, to telemetry.Cursor) error {
	about, err := t.describe(ctx)
	if err != nil {
		return err
	}
	for _, c := range []telemetry.Cursor{from, to} {
		switch {
		case c.Next == nil && c.Log == 0 && !c.InPast():
			continue // no bound
		case c.InPast():
			return fmt.Errorf("%s: the cursor is a time, not a place in the log (%w)", t.name, telemetry.ErrGone)
		case c.Log != about.log:
			return fmt.Errorf("%s: the cursor belongs to another log (%w)", t.name, telemetry.ErrGone)
		case len(c.Next) != about.partitions:
			return fmt.Errorf("%s: the cursor has %d partitions, the log %d (%w)", t.name, len(c.Next), about.partitions, telemetry.ErrGone)
		}
	}
	if from.Next == nil {
		return fmt.Errorf("%s: there is no cursor to follow from (%w)", t.name, telemetry.ErrGone)
	}
	return nil
}

// reader is one Follow. It has one goroutine.
type reader struct {
	topic   *Topic
	decoder *decoder
	next    []int64 // by partition: the next offset to hand over
	to      []int64 // by partition: where to end; nil: never
	open    int     // partitions not yet at their end
	handle  func([]telemetry.Record) error
	batch   []telemetry.Record
}

// Limits of a fetch. A bounded read asks for about what it needs, because
// brokers answer with as much as they may.
const (
	fetchPartition  = 1 << 20
	fetchAll        = 16 << 20
	fetchLeast      = 16 << 10
	aboutOneRecord  = 256
	fetchWait       = 5 * time.Second
	fetchReasonable = 10_000 // records handed over at once
)

func (r *reader) run(ctx context.Context) error {
	want, most := r.wanted()
	if r.open == 0 {
		return nil
	}
	client, err := r.topic.log.newClient(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic.name: want}),
		// Records that are gone are an error, not a silent jump.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.KeepControlRecords(), // so that every offset is seen and an end is found
		kgo.FetchMaxPartitionBytes(int32(most)),
		kgo.FetchMaxBytes(fetchAll),
		kgo.FetchMaxWait(fetchWait),
	)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	defer client.Close()
	for {
		fetches := client.PollRecords(ctx, fetchReasonable)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.take(fetches); err != nil {
			return err
		}
		if r.to != nil && r.open == 0 {
			return nil
		}
		if err := r.failure(fetches); err != nil {
			return fmt.Errorf("stream: follow %s: %w", r.topic.name, err)
		}
	}
}

// wanted are the partitions to read and how many bytes to ask of each.
func (r *reader) wanted() (map[int32]kgo.Offset, int64) {
	want, most := make(map[int32]kgo.Offset), int64(fetchLeast)
	for p, next := range r.next {
		if r.to != nil {
			if next >= r.to[p] {
				continue
			}
			most = max(most, (r.to[p]-next)*aboutOneRecord)
		} else {
			most = fetchPartition
		}
		want[int32(p)] = kgo.NewOffset().At(next)
	}
	r.open = len(want)
	return want, min(most, fetchPartition)
}

// take hands over what a poll brought.
func (r *reader) take(fetches kgo.Fetches) error {
	r.batch = r.batch[:0]
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		for _, record := range p.Records {
			r.takeRecord(record)
		}
	})
	if len(r.batch) == 0 {
		return nil
	}
	return r.handle(r.batch)
}

func (r *reader) takeRecord(record *kgo.Record) {
	p := record.Partition
	if record.Offset < r.next[p] || r.to != nil && r.next[p] >= r.to[p] {
		return
	}
	inside := r.to == nil || record.Offset < r.to[p]
	r.next[p] = record.Offset + 1
	if r.to != nil && r.next[p] >= r.to[p] {
		r.open--
	}
	if inside && !record.Attrs.IsControl() {
		r.batch = append(r.batch, r.decoder.decode(record))
	}
}

// failure is the error, if any, that a poll brought and that the Kafka client
// does not get over by itself.
func (r *reader) failure(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if e.Topic == "" && errors.Is(e.Err, context.Canceled) {
			continue
		}
		if errors.Is(e.Err, kerr.OffsetOutOfRange) {
			return fmt.Errorf("partition %d: offset %d is not in the log any more (%w)", e.Partition, r.next[e.Partition], telemetry.ErrGone)
		}
		if errors.Is(e.Err, kerr.UnknownTopicID) || errors.Is(e.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("the topic was deleted: %w (%w)", e.Err, telemetry.ErrGone)
		}
		return fmt.Errorf("partition %d: %w (%w)", e.Partition, e.Err, telemetry.ErrUnavailable)
	}
	return nil
}
