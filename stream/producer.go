package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"millrace/telemetry"
)

// ProducerConfig of a producer. The zero value is good.
type ProducerConfig struct {
	// Compression of batches; "" is [None].
	Compression Compression
	// Linger is how long a partition waits for company before it is sent; 0 is
	// five milliseconds, negative does not wait. It is the price of an idle
	// log's append and the size of its batches: a log keeps an index entry for each.
	Linger time.Duration
	// Buffer bounds the memory of appends that have not ended, in bytes, our
	// own overhead included; 0 is 64 MiB.
	Buffer int64
}

// Producer appends entries to the log: idempotent, acks=all, in the order of
// each device. It is safe for concurrent use.
//
// An append has no deadline. While Kafka is away, entries wait in the buffer,
// then Append waits and TryAppend answers that there is no room: an outage is
// back-pressure, never loss.
type Producer struct {
	log     *Log
	client  *kgo.Client
	promise func(*kgo.Record, error)
	buffer  int64
	room    *semaphore.Weighted // of buffer

	// closing ends those who wait for room.
	closing context.Context
	close   context.CancelFunc

	// mu guards closed, and is held for reading while a record is handed to
	// the client: after Close has set closed, no record comes behind its flush.
	mu     sync.RWMutex
	closed bool
}

// What one append costs beside its value: our record and the client's, its
// headers and its place in a batch.
const overhead = 512

// NewProducer makes a producer of the log's two topics. It does not connect.
func NewProducer(l *Log, c ProducerConfig) (*Producer, error) {
	codec, err := c.Compression.codec()
	if err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	p := &Producer{log: l, buffer: cmp.Or(c.Buffer, 64<<20)}
	p.room = semaphore.NewWeighted(p.buffer)
	p.promise = p.finish
	p.closing, p.close = context.WithCancel(context.Background())
	p.client, err = l.newClient(
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// murmur2 of the key, as Kafka's own clients have it.
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerLinger(max(cmp.Or(c.Linger, 5*time.Millisecond), 0)),
		kgo.ProducerBatchCompression(codec),
		// The bound is p.room: the client's own would let the context of one
		// waiting append fail all that is buffered for its partition.
		kgo.MaxBufferedRecords(1<<30),
	)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("stream: %w", err)
	}
	return p, nil
}

// Append appends the entry and calls done once: with its position when Kafka
// has acknowledged it, else with an error, and then nothing may be acknowledged
// to the device. It waits for room, until ctx or the producer ends; once the
// entry is in, ctx has no more say.
//
// done may be called before Append returns, and is called from a goroutine that
// all appends share: it must not block. A position's Offset is -1 where Kafka
// had the record already and does not say where. Errors wrap
// [telemetry.ErrUnavailable], [telemetry.ErrClosed] or ctx's error; an entry
// too large for Kafka is a *[telemetry.Refusal].
func (p *Producer) Append(ctx context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	a := p.newAppend(e, done)
	if err := p.wait(ctx, a.cost); err != nil {
		a.fail(err)
		return
	}
	p.produce(a)
}

// TryAppend is Append that does not wait: where there is no room, done is told
// [telemetry.ErrOverloaded] at once.
func (p *Producer) TryAppend(_ context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	a := p.newAppend(e, done)
	switch {
	case p.closing.Err() != nil:
		a.fail(telemetry.ErrClosed)
	case !p.room.TryAcquire(a.cost):
		a.fail(telemetry.ErrOverloaded)
	default:
		p.produce(a)
	}
}

// wait takes room from the buffer.
func (p *Producer) wait(ctx context.Context, cost int64) error {
	if p.room.TryAcquire(cost) {
		return nil
	}
	if cost > p.buffer {
		return telemetry.Refuse(telemetry.ReasonLimit, "an entry of %d bytes is larger than the whole buffer of %d", cost, p.buffer)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.closing, cancel)()
	if err := p.room.Acquire(ctx, cost); err != nil {
		if p.closing.Err() != nil {
			return telemetry.ErrClosed
		}
		return err
	}
	return nil
}

func (p *Producer) produce(a *pending) {
	p.mu.RLock()
	if p.closed {
		p.mu.RUnlock()
		p.room.Release(a.cost)
		a.fail(telemetry.ErrClosed)
		return
	}
	p.client.Produce(a, &a.record, p.promise)
	p.mu.RUnlock()
}

// finish is the one promise of all records: the client calls it once for each,
// one after the other. The room comes back behind done: Close returns when all of
// it is back.
func (p *Producer) finish(r *kgo.Record, err error) {
	a := r.Context.(*pending)
	defer p.room.Release(a.cost)
	if err != nil {
		a.fail(p.explain(r, err))
		return
	}
	p.log.config.Events.appended(r.Topic, len(r.Value), time.Since(a.began), nil)
	a.done(telemetry.Position{Partition: r.Partition, Offset: r.Offset}, nil)
}

// explain puts the client's error into our family.
func (p *Producer) explain(r *kgo.Record, err error) error {
	switch {
	case errors.Is(err, kgo.ErrClientClosed), errors.Is(err, kgo.ErrAborting),
		errors.Is(err, context.Canceled): // the client's own: a record's context never ends
		return telemetry.ErrClosed
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return telemetry.Refuse(telemetry.ReasonLimit, "an entry of %d bytes is larger than the log takes", len(r.Value))
	}
	return fmt.Errorf("append to %s: %w (%w)", r.Topic, err, telemetry.ErrUnavailable)
}

// Buffered is how many appends have not ended, and their values' and keys' bytes.
func (p *Producer) Buffered() (appends, bytes int64) {
	return p.client.BufferedProduceRecords(), p.client.BufferedProduceBytes()
}

// Close waits until all appends have ended, at most until ctx ends; those that
// have not by then are told [telemetry.ErrClosed], as are all later ones, and
// Close answers ctx's error. Every done has been called when it returns.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	was := p.closed
	p.closed = true
	p.mu.Unlock()
	if was {
		return nil
	}
	p.close()
	err := p.client.Flush(ctx)
	p.client.Close()
	// The client fails what is left from its own goroutines: room comes back
	// with every promise, so all of it is back when all are kept.
	_ = p.room.Acquire(context.Background(), p.buffer)
	if err != nil {
		return fmt.Errorf("stream: the log did not take all appends in time: %w", err)
	}
	return nil
}

// pending is one append, from Append to done. It travels with its record as
// the record's context: so one promise serves all, and no append's deadline can
// fail its neighbours, because this context never ends.
type pending struct {
	context.Context
	record kgo.Record
	header [1]kgo.RecordHeader
	events *Events
	done   func(telemetry.Position, error)
	cost   int64
	began  time.Time
}

func (p *Producer) newAppend(e telemetry.Entry, done func(telemetry.Position, error)) *pending {
	a := &pending{Context: context.Background(), events: &p.log.config.Events, done: done, began: time.Now()}
	a.cost = int64(overhead + len(e.Value) + len(e.Device))
	text := make([]byte, 0, receivedLength+len(e.Device)) // one allocation for both
	text = telemetry.AppendTime(text, e.Received)
	received := text[:len(text):len(text)]
	text = append(text, e.Device...)
	a.header[0] = kgo.RecordHeader{Key: headerReceived, Value: received}
	a.record = kgo.Record{
		Value:     e.Value,
		Headers:   a.header[:],
		Timestamp: e.Received,
		Topic:     p.log.readings.name,
	}
	if e.Device != "" { // without a key, any partition will do
		a.record.Key = text[len(received):]
	}
	if e.Dead != nil {
		a.record.Topic = p.log.dead.name
		a.record.Headers = deadHeaders(a.header[:], e.Dead)
		a.cost += int64(len(e.Dead.Detail) + len(e.Dead.Topic) + len(e.Dead.Client))
	}
	return a
}

// fail ends the append with an error.
func (a *pending) fail(err error) {
	a.events.appended(a.record.Topic, len(a.record.Value), time.Since(a.began), err)
	a.done(telemetry.Position{}, err)
}
