package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"millrace/telemetry"
)

// dataError is the database's refusal of the data itself: to try again does not help.
type dataError struct{ answer *pgconn.PgError }

func (d *dataError) Error() string {
	return fmt.Sprintf("the database refused it: %s (SQLSTATE %s)", strings.ToValidUTF8(d.answer.Message, "?"), d.answer.Code)
}

func (d *dataError) Unwrap() error { return d.answer }

// classed makes a dataError of what is one: SQLSTATE class 22 (data exception),
// 23 (integrity constraint violation) and 54 (program limit exceeded).
func classed(err error) error {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.Code[:2] {
	case "22", "23", "54":
		if !noPartition(answer) {
			return &dataError{answer}
		}
	}
	return err
}

// noPartition says whether a day's partition is gone. The server gives it the
// code of a violated check, but names no constraint.
func noPartition(answer *pgconn.PgError) bool {
	return answer.Code == "42P01" || answer.Code == "23514" && answer.ConstraintName == ""
}

// commit is the one transaction of a batch.
func (b *batch) commit(ctx context.Context) error {
	s := b.h.sink
	if err := s.makeDays(ctx, b.days); err != nil {
		return err
	}
	if err := s.indexDays(ctx, b.late); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if err := b.lock(ctx, tx); err != nil {
			return err
		}
		if err := b.settleLate(ctx, tx); err != nil {
			return fmt.Errorf("look up %d late values: %w", len(b.late), err)
		}
		b.count()
		if err := b.write(ctx, tx); err != nil {
			return fmt.Errorf("copy %d rows: %w", len(b.rows), s.db.explain(err))
		}
		var q pgx.Batch
		b.queueDead(&q)
		b.queueDirty(&q)
		b.queueSeen(&q)
		b.advance(&q)
		if err := tx.SendBatch(ctx, &q).Close(); err != nil {
			return fmt.Errorf("keep dead letters and offsets: %w", s.db.explain(err))
		}
		return nil
	})
	var answer *pgconn.PgError
	if errors.As(err, &answer) && noPartition(answer) {
		s.forgetDays()
	}
	return classed(s.db.explain(err))
}

// settleLate decides about the late values: the same value again is a
// duplicate, another value for the same time a conflict, the rest is new. It
// runs behind the fence's lock, so nobody adds a value to these series meanwhile.
func (b *batch) settleLate(ctx context.Context, tx pgx.Tx) error {
	b.group()
	if len(b.late) == 0 {
		return nil
	}
	places := make([]at, len(b.late))
	for i := range b.late {
		places[i] = at{b.late[i].series().id, b.late[i].time}
	}
	there := make(map[at]telemetry.Value)
	err := b.h.sink.db.lookup(ctx, tx, places, func(i int, number *float64, text *string) {
		there[places[i]] = telemetry.Stored(number, text)
	})
	if err != nil {
		return err
	}
	ahead := len(b.rows) // rows beyond are late ones, out of order
	for i := range b.late {
		v := &b.late[i]
		have, ok := there[places[i]]
		if !ok {
			have, ok = b.search(b.rows[:ahead], places[i])
		}
		if ok {
			b.again(v, have)
			continue
		}
		there[places[i]] = v.value
		b.add(v)
	}
	if len(b.rows) > ahead {
		slices.SortFunc(b.rows, func(x, y row) int { return compareAt(x.place(), y.place()) })
	}
	return nil
}

// again is a value for a time that has one.
func (b *batch) again(v *value, have telemetry.Value) {
	if v.value.Equal(have) {
		return
	}
	k := &b.records[v.record]
	if k.reason != "" { // one dead letter a record; its payload has the other values
		return
	}
	k.reason = telemetry.ReasonConflict
	k.detail = fmt.Sprintf("%s of %s at %s was %s and is now said to be %s: the first stays",
		v.series().metric, v.device.name, telemetry.AppendTime(nil, time.UnixMicro(v.time)), show(have), show(v.value))
}

// show is a value for people, shortened.
func show(v telemetry.Value) string {
	const most = 200
	text := string(v.AppendJSON(nil))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// group puts the rows of a series next to each other, in order of their ids: an
// index over (series, time) is then touched page by page, and a columnstore gets
// whole runs. The rows of a series stand in order of time already, so counting
// places them; comparing them all took longer than encoding them.
func (b *batch) group() {
	order, counts := make([]int32, len(b.series)), make([]int32, len(b.series)) // by mark
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int { return cmp.Compare(b.series[x].series().id, b.series[y].series().id) })
	for i := range b.rows {
		counts[b.rows[i].mark]++
	}
	next := int32(0)
	for _, m := range order {
		counts[m], next = next, next+counts[m]
	}
	b.sorted = slices.Grow(b.sorted[:0], len(b.rows))[:len(b.rows)]
	for i := range b.rows {
		m := b.rows[i].mark
		b.sorted[counts[m]] = b.rows[i]
		counts[m]++
	}
	b.rows, b.sorted = b.sorted, b.rows
}

func compareAt(x, y at) int {
	if x.id != y.id {
		return cmp.Compare(x.id, y.id)
	}
	return cmp.Compare(x.time, y.time)
}

func (b *batch) search(rows []row, p at) (telemetry.Value, bool) {
	i, ok := slices.BinarySearchFunc(rows, p, func(r row, p at) int { return compareAt(r.place(), p) })
	if !ok {
		return telemetry.Value{}, false
	}
	return b.value(&rows[i]), true
}

// count gives each record to exactly one of stored, duplicates, dead.
func (b *batch) count() {
	for i := range b.records {
		k := &b.records[i]
		switch {
		case k.reason != "":
			k.progress.dead++
		case k.fresh:
			k.progress.stored++
		default:
			k.progress.duplicate++
		}
	}
}

// queueDirty names the slots of ten minutes that the rows change, for the rollups.
func (b *batch) queueDirty(q *pgx.Batch) {
	if b.h.sink.db.timescale() || len(b.rows) == 0 {
		return
	}
	const slot = 10 * 60 * 1_000_000
	slots := make(map[int64]struct{})
	last := int64(-1)
	for i := range b.rows {
		if s := b.rows[i].time / slot; s != last {
			slots[s] = struct{}{}
			last = s
		}
	}
	starts := make([]time.Time, 0, len(slots))
	for s := range slots {
		starts = append(starts, time.UnixMicro(s*slot))
	}
	q.Queue(`insert into rollup_dirty (slot) select unnest($1::timestamptz[])`, starts)
}

// queueSeen notes when the devices were last heard of, each at most once a minute.
func (b *batch) queueSeen(q *pgx.Batch) {
	if len(b.seen) == 0 {
		return
	}
	names := make([]string, 0, len(b.seen))
	for name := range b.seen {
		names = append(names, name)
	}
	slices.Sort(names)
	times := make([]time.Time, len(names))
	for i, name := range names {
		times[i] = b.seen[name]
	}
	q.Queue(seenSQL, names, times)
}

// queueDead inserts the dead letters of the batch.
func (b *batch) queueDead(q *pgx.Batch) {
	for i := range b.records {
		k := &b.records[i]
		if k.reason == "" {
			continue
		}
		from := telemetry.DeadLetter{}
		if k.Dead != nil {
			from = *k.Dead
		}
		payload := k.Value
		if payload == nil {
			payload = []byte{} // an empty message, not an unknown one
		}
		device := k.device
		if telemetry.CheckDevice(device) != nil {
			device = "" // a key of foreign making: the payload has what was said
		}
		q.Queue(`
			insert into dead_letters (log_topic, log_id, "partition", "offset", rx, reason, detail, source, topic, client, device, payload)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			b.h.topic, int64(b.h.log), k.Partition, k.Offset, inYears(k.Received), reasonWord(k.reason), clean(k.detail),
			clean(from.Source), clean(from.Topic), clean(from.Client), device, payload)
	}
}

// reasonWord is the reason as the table holds it: the topic of dead letters is
// open to foreign writers, whose headers may hold anything.
func reasonWord(r telemetry.Reason) string {
	const most = 64
	word := clean(string(r))
	if len(word) > most {
		return string(telemetry.ReasonMalformed)
	}
	return word
}

// inYears is a time of receipt as PostgreSQL holds it, or now for one beyond.
func inYears(t time.Time) time.Time {
	if year := t.Year(); year < 1 || year > 9999 {
		return time.Now()
	}
	return t
}

// clean is text as PostgreSQL holds it. Topics and client ids are the sender's
// choice, and a dead letter must never be refused for them.
func clean(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\ufffd")
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
