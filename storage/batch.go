package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"millrace/telemetry"
)

// batch is a transaction's worth of records on its way: read, resolved to
// series, sorted into new and late values, committed. It is reused, and belongs
// to one writer.
//
//	records ─fill─▶ values ─resolve─▶ series ids, newest times ─classify─▶ rows │ late
//	                                                                         commit
type batch struct {
	h        *Handler
	reading  telemetry.Reading // reused: parsing a like reading allocates nothing
	progress []*progress
	records  []kept
	values   []value
	rows     []row
	late     []int32 // indexes of values
	days     []day   // of all values
	seen     map[string]time.Time
	encoded  []byte // rows as COPY wants them
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

// value is one metric of a record.
type value struct {
	place
	record int32
	time   int64 // Unix microseconds
	value  telemetry.Value
}

// row is a value that goes into samples.
type row struct {
	at
	value telemetry.Value
}

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
		b.classify()
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
	b.progress, b.bytes, b.skipped = b.progress[:0], 0, 0
	clear(b.records) // they point at payloads
	clear(b.values)
	clear(b.rows)
	b.records, b.values, b.rows = b.records[:0], b.values[:0], b.rows[:0]
	b.late, b.days = b.late[:0], b.days[:0]
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
		if len(b.values) >= b.h.sink.cfg.BatchRows || b.bytes >= batchBytes {
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

// read is the record's values, or its refusal.
func (b *batch) read(k *kept) {
	r := &b.reading
	err := telemetry.ParseReading(k.Value, r)
	if err == nil {
		err = r.Check(k.Received)
	} else {
		*r = telemetry.Reading{} // undefined after an error
	}
	if err != nil {
		k.refuse(err)
		return
	}
	p := k.progress
	d := p.device(r.Device)
	k.device = d.name
	if k.Received.Unix()-d.seen >= int64(seenEvery/time.Second) {
		d.seen = k.Received.Unix()
		b.seen[d.name] = k.Received
	}
	micros := r.Time.UnixMicro()
	if today := dayOf(micros); len(b.days) == 0 || b.days[len(b.days)-1] != today {
		b.days = append(b.days, today)
	}
	hint := -1
	for i := range r.Metrics {
		hint = p.find(d, r.Metrics[i].Name, hint)
		b.values = append(b.values, value{
			place: place{d, int32(hint)}, record: int32(len(b.records) - 1),
			time: micros, value: r.Metrics[i].Value,
		})
	}
}

func (k *kept) refuse(err error) {
	var refusal *telemetry.Refusal
	if !errors.As(err, &refusal) {
		refusal = telemetry.Refuse(telemetry.ReasonMalformed, "%v", err)
	}
	k.reason, k.detail = refusal.Reason, refusal.Detail
}

// resolve learns the ids and newest times of the series that are seen for the
// first time, in a round trip each.
func (b *batch) resolve(ctx context.Context) error {
	var nameless, unknown []place
	for i := range b.values {
		s := b.values[i].series()
		if s.newest != newestUnknown {
			continue
		}
		s.newest = newestNever // once in the lists is enough; corrected below
		unknown = append(unknown, b.values[i].place)
		if s.id == 0 {
			nameless = append(nameless, b.values[i].place)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	for _, p := range unknown {
		p.series().newest = newestUnknown
	}
	if len(nameless) > 0 {
		if err := b.h.sink.db.identify(ctx, nameless, b.firstSeen(nameless)); err != nil {
			return classed(err)
		}
	}
	return b.load(ctx, unknown)
}

// firstSeen is the time of receipt for the devices that may be new.
func (b *batch) firstSeen(nameless []place) map[string]time.Time {
	seen := make(map[string]time.Time, len(nameless))
	for _, p := range nameless {
		at, ok := b.seen[p.device.name]
		if !ok {
			at = time.Unix(p.device.seen, 0)
		}
		seen[p.device.name] = at
	}
	return seen
}

// load reads the newest times of series that are not new in the database.
func (b *batch) load(ctx context.Context, unknown []place) error {
	byID := make(map[int32]place, len(unknown))
	ids := make([]int32, 0, len(unknown))
	for _, p := range unknown {
		if s := p.series(); s.newest == newestUnknown {
			byID[s.id] = p
			ids = append(ids, s.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	err := b.h.sink.db.newest(ctx, b.h.sink.db.pool, ids, func(l latest) {
		byID[l.id].series().newest = l.time.UnixMicro()
	})
	if err != nil {
		return fmt.Errorf("newest times of %d series: %w", len(ids), err)
	}
	for _, p := range unknown {
		if s := p.series(); s.newest == newestUnknown {
			s.newest = newestNever
		}
	}
	return nil
}

// classify divides the values into those newer than all their series has, which
// are new for certain, and late ones, which have to be looked up.
func (b *batch) classify() {
	for i := range b.values {
		v := &b.values[i]
		s := v.series()
		if v.time <= s.newest {
			b.late = append(b.late, int32(i))
			continue
		}
		s.newest = v.time
		b.rows = append(b.rows, row{at{s.id, v.time}, v.value})
		b.records[v.record].fresh = true
	}
	slices.Sort(b.days)
	b.days = slices.Compact(b.days)
}
