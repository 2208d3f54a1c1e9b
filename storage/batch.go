package storage

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"millrace/telemetry"
)

// batch is a transaction's worth of records on its way: read, resolved to
// series, sorted into new and late values, committed. It is reused, and belongs
// to one writer.
//
//	records ─fill─▶ rows                    newer than all their series has: new for certain
//	           │──▶ late                    not newer: looked up behind the fence's lock
//	           └──▶ unknown ─resolve─▶ one of the two, once the series' newest time is read
type batch struct {
	h        *Handler
	reading  telemetry.Reading // reused: parsing a like reading allocates nothing
	progress []*progress
	records  []kept
	unknown  []value
	late     []value
	rows     []row
	texts    []string // of the rows
	series   []place  // of the rows, each once
	sorted   []row    // memory for group
	days     []day    // of all values
	seen     map[string]time.Time
	encoded  []byte // rows as COPY wants them
	values   int    // in all
	bytes    int    // of the records
	skipped  int    // records that were kept before
}

// kept is a record of the batch and what becomes of it.
type kept struct {
	*telemetry.Record
	progress *progress
	fresh    bool             // adds a value
	reason   telemetry.Reason // of the dead letter it becomes, or ""
	detail   string
	device   string
}

// value is one metric of a record, on its way to become a row.
type value struct {
	place
	record int32
	time   int64 // Unix microseconds
	value  telemetry.Value
}

// row is a value that goes into samples. It holds no pointer, so that the
// garbage collector passes over the tens of thousands of them.
type row struct {
	time   int64 // Unix microseconds
	number float64
	id     int32 // of the series
	mark   int32 // index of batch.series
	text   int32 // index of batch.texts, or noText
	kind   telemetry.Kind
}

const noText = -1

func (r *row) place() at { return at{r.id, r.time} }

// batchBytes bounds the records of a transaction, whose texts may be long.
const batchBytes = 16 << 20

// seenEvery is how old devices.seen may be.
const seenEvery = time.Minute

// keep commits the records of a writer, in as many transactions as they need.
func (b *batch) keep(ctx context.Context, records []telemetry.Record) error {
	for len(records) > 0 {
		n, err := b.commitSome(ctx, records, nil)
		if err == nil {
			records = records[n:]
			continue
		}
		var fault *dataError
		if !errors.As(err, &fault) {
			return err
		}
		if err := b.isolate(ctx, records[:n], fault); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// isolate divides records that the database refused for their data until it has
// the one at fault.
func (b *batch) isolate(ctx context.Context, records []telemetry.Record, fault *dataError) error {
	if err := b.h.reload(ctx, records); err != nil {
		return err
	}
	if len(records) == 1 {
		b.h.sink.cfg.Log.Warn("sink: the database refuses a record: it becomes a dead letter",
			slog.String("topic", b.h.topic), slog.Int("partition", int(records[0].Partition)),
			slog.Int64("offset", records[0].Offset), slog.String("error", fault.Error()))
		_, err := b.commitSome(ctx, records, fault)
		return err
	}
	half := len(records) / 2
	if err := b.keep(ctx, records[:half]); err != nil {
		return err
	}
	return b.keep(ctx, records[half:])
}

// commitSome commits as many of the records as one transaction takes and says
// how many that were. With a fault, the one record goes straight to the dead letters.
func (b *batch) commitSome(ctx context.Context, records []telemetry.Record, fault *dataError) (int, error) {
	start := time.Now()
	n := b.fill(records, fault)
	if len(b.records) == 0 {
		return n, nil
	}
	err := b.resolve(ctx)
	if err == nil {
		err = b.commit(ctx)
	}
	if err != nil {
		for _, p := range b.progress { // what they learned was not committed, or nobody knows
			p.stale, p.devices, p.names, p.known = true, nil, nil, 0
		}
		return n, err
	}
	for _, p := range b.progress {
		p.next = p.to
		if p.first < 0 {
			p.first = p.from
		}
	}
	b.report(start)
	return n, nil
}

func (b *batch) report(start time.Time) {
	done := Batch{
		Topic: b.h.topic, Records: len(b.records), Values: len(b.rows), Late: len(b.late), Took: time.Since(start),
		Lag: time.Since(b.records[len(b.records)-1].Received),
	}
	for _, p := range b.progress {
		done.Stored += int(p.stored)
		done.Duplicates += int(p.duplicate)
		done.Dead += int(p.dead)
		if p.missed > 0 {
			b.h.sink.cfg.Log.Error("sink: the log lost records before they were stored: keep the log longer, or the sink running",
				slog.String("topic", b.h.topic), slog.Int("partition", int(p.id)),
				slog.Int64("records", p.missed), slog.Int64("next_offset", p.next))
			b.h.sink.cfg.Events.missed(b.h.topic, p.id, p.missed)
		}
	}
	b.h.sink.cfg.Events.committed(done)
}

func (b *batch) reset() {
	b.progress, b.bytes, b.values, b.skipped = b.progress[:0], 0, 0, 0
	clear(b.records) // they point at payloads, devices and texts
	clear(b.unknown)
	clear(b.late)
	clear(b.texts)
	clear(b.series)
	b.records, b.unknown, b.late, b.texts, b.series = b.records[:0], b.unknown[:0], b.late[:0], b.texts[:0], b.series[:0]
	b.rows, b.days = b.rows[:0], b.days[:0]
	if b.seen == nil {
		b.seen = make(map[string]time.Time)
	}
	clear(b.seen)
}

// fill reads records until the batch is full, and says how many it read.
func (b *batch) fill(records []telemetry.Record, fault *dataError) int {
	b.reset()
	var p *progress
	for i := range records {
		if b.values >= b.h.sink.cfg.BatchRows || b.bytes >= batchBytes {
			return i
		}
		r := &records[i]
		if p == nil || p.id != r.Partition {
			p = b.enter(r.Partition)
		}
		if r.Offset < p.to {
			b.skipped++
			continue
		}
		b.follow(p, r.Offset)
		b.bytes += len(r.Value)
		b.records = append(b.records, kept{Record: r, progress: p, device: r.Device})
		k := &b.records[len(b.records)-1]
		switch {
		case b.h.dead:
			k.refuse(deadLetter(r))
		case fault != nil:
			k.refuse(&telemetry.Refusal{Reason: telemetry.ReasonStore, Detail: fault.Error()})
		default:
			b.read(k)
		}
	}
	return len(records)
}

func deadLetter(r *telemetry.Record) *telemetry.Refusal {
	if r.Dead == nil { // somebody else wrote to the topic
		return telemetry.Refuse(telemetry.ReasonMalformed, "a record of the dead topic without a reason")
	}
	return &telemetry.Refusal{Reason: r.Dead.Reason, Detail: r.Dead.Detail}
}

func (b *batch) enter(id int32) *progress {
	for _, p := range b.progress {
		if p.id == id {
			return p
		}
	}
	part := b.h.partitions[id]
	p := &progress{partition: part, from: -1, to: part.next}
	b.progress = append(b.progress, p)
	return p
}

// follow moves the partition behind the offset. A hole in the offsets means that
// the log dropped records before they were read: that must be seen.
func (b *batch) follow(p *progress, offset int64) {
	if p.from < 0 {
		p.from = offset
	}
	if p.to >= 0 && offset > p.to {
		p.missed += offset - p.to
	}
	p.to = offset + 1
	p.records++
}
