package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/telemetry"
)

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
	d := p.device(r.Device, k.Received)
	k.device = d.name
	if k.Received.Unix()-d.seen >= int64(seenEvery/time.Second) {
		d.seen = k.Received.Unix()
		b.seen[d.name] = k.Received
	}
	micros := r.Time.UnixMicro()
	if today := dayOf(micros); len(b.days) == 0 || b.days[len(b.days)-1] != today {
		b.days = append(b.days, today)
	}
	record, hint := int32(len(b.records)-1), -1
	for i := range r.Metrics {
		hint = p.find(d, r.Metrics[i].Name, hint)
		b.take(value{place{d, int32(hint)}, record, micros, r.Metrics[i].Value})
	}
	b.values += len(r.Metrics)
}

// take classes a value, as soon as the newest time of its series is known.
// Values of one series are classed in their order.
func (b *batch) take(v value) {
	s := v.series()
	switch {
	case s.newest == newestUnknown:
		b.unknown = append(b.unknown, v)
	case v.time <= s.newest:
		b.late = append(b.late, v)
	default:
		s.newest = v.time
		b.add(&v)
	}
}

// add makes a row of a value.
func (b *batch) add(v *value) {
	s := v.series()
	if int(s.mark) >= len(b.series) || b.series[s.mark] != v.place {
		s.mark = int32(len(b.series))
		b.series = append(b.series, v.place)
	}
	text := int32(noText)
	if v.value.HasText() {
		text = int32(len(b.texts))
		b.texts = append(b.texts, v.value.Text())
	}
	b.rows = append(b.rows, row{v.time, v.value.Number(), s.id, s.mark, text, v.value.Kind()})
	b.records[v.record].fresh = true
}

// value that the row holds.
func (b *batch) value(r *row) telemetry.Value {
	switch r.kind {
	case telemetry.KindText:
		return telemetry.Text(b.texts[r.text])
	case telemetry.KindBool:
		return telemetry.Bool(r.number == 1)
	}
	return telemetry.Number(r.number)
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
	slices.Sort(b.days)
	b.days = slices.Compact(b.days)
	if len(b.unknown) == 0 {
		return nil
	}
	var nameless, unknown []place
	for i := range b.unknown {
		s := b.unknown[i].series()
		if s.newest != newestUnknown {
			continue
		}
		s.newest = newestNever // so that it is in the lists once
		unknown = append(unknown, b.unknown[i].place)
		if s.id == 0 {
			nameless = append(nameless, b.unknown[i].place)
		}
	}
	for _, p := range unknown {
		p.series().newest = newestUnknown
	}
	if len(nameless) > 0 {
		if err := b.h.sink.db.identify(ctx, nameless); err != nil {
			return classed(err)
		}
	}
	if err := b.load(ctx, unknown); err != nil {
		return err
	}
	for i := range b.unknown {
		b.take(b.unknown[i])
	}
	return nil
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
	if err := b.h.sink.db.indexAll(ctx); err != nil {
		return err
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
