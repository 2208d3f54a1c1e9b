package storage

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// History reads what was stored. It is a broadcaster.History and safe for
// concurrent use; each call holds one connection while it runs.
type History struct{ db *DB }

// NewHistory is the history in db.
func NewHistory(db *DB) *History { return &History{db} }

// Latest calls yield with one reading a device: the newest value of each of its
// metrics, at the time of the newest of all, in byte order of the devices. It
// answers the cursor from which on the log has what is not in it; a partition
// that was never stored counts as 0 there, and partitions behind the last stored
// one are not in it. The reading is reused: yield must not keep it.
func (h *History) Latest(ctx context.Context, log uint64, yield func(*telemetry.Reading) error) (telemetry.Cursor, error) {
	cursor, err := h.snapshot(ctx, log, func(tx pgx.Tx) error {
		return h.db.latest(ctx, tx, telemetry.Filter{}, yield)
	})
	if err != nil {
		return telemetry.Cursor{}, fmt.Errorf("history: latest: %w", err)
	}
	return cursor, nil
}

// Replay calls yield with the readings behind span.After (a cursor in the past;
// the zero one is the beginning) and before span.To that match the filter, in
// order of (time, device), each as it was said: metrics of one device at one
// time are one reading. All are from one snapshot, which Replay holds while
// yield takes its time. It answers the cursor at which the log goes on, as
// Latest does. The reading is reused: yield must not keep it.
func (h *History) Replay(ctx context.Context, log uint64, span telemetry.Span, yield func(*telemetry.Reading) error) (telemetry.Cursor, error) {
	cursor, err := h.snapshot(ctx, log, func(tx pgx.Tx) error {
		return h.db.scan(ctx, tx, scan{after: span.After, to: span.To, filter: span.Filter}, yield)
	})
	if err != nil {
		return telemetry.Cursor{}, fmt.Errorf("history: replay: %w", err)
	}
	return cursor, nil
}

// snapshot runs read in one snapshot with the offsets of the log: rows and
// offsets are committed together, so the rows are exactly the records below them.
func (h *History) snapshot(ctx context.Context, log uint64, read func(pgx.Tx) error) (telemetry.Cursor, error) {
	cursor := telemetry.Cursor{Log: log}
	err := h.db.read(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			select "partition", greatest(next_offset, 0) from log_offsets where log_id = $1 order by "partition"`, int64(log))
		var id int32
		var next int64
		_, err := pgx.ForEachRow(rows, []any{&id, &next}, func() error {
			cursor.Next = append(cursor.Next, make([]int64, int(id)+1-len(cursor.Next))...)
			cursor.Next[id] = next
			return nil
		})
		if err != nil {
			return h.db.explain(err)
		}
		return read(tx)
	})
	return cursor, err
}

// read runs f in a snapshot that does not change.
func (db *DB) read(ctx context.Context, f func(pgx.Tx) error) error {
	// Without an index the answer is the same and takes longer: a role that may
	// not make one reads all the same.
	if err := db.indexAll(ctx); err != nil {
		db.log.Debug("storage: a partition stays without its index", slog.String("error", err.Error()))
	}
	tx, err := db.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return db.explain(err)
	}
	err = f(tx)
	// Nothing was written: the end of the transaction cannot fail in a way that
	// matters, and it must happen even where ctx is done.
	_ = tx.Rollback(context.WithoutCancel(ctx))
	return err
}

// name is a series' device and metric.
type name struct {
	id             int32
	device, metric string
}

// names are the series that a filter may need: those of its devices, and if it
// names metrics, these and what its conditions look at. In order of (device, metric).
func (db *DB) names(ctx context.Context, q querier, f telemetry.Filter) ([]name, error) {
	exact, like := globs(f.Devices)
	rows, _ := q.Query(ctx, `
		select id, device, metric from series
		where ($1 or device = any($2::text[]) or device like any($3::text[])) and ($4 or metric = any($5::text[]))
		order by device, metric`,
		len(f.Devices) == 0, exact, like, len(f.Metrics) == 0, needed(f))
	var names []name
	var n name
	_, err := pgx.ForEachRow(rows, []any{&n.id, &n.device, &n.metric}, func() error {
		names = append(names, n)
		return nil
	})
	return names, db.explain(err)
}

// needed are the metrics without which the filter cannot decide.
func needed(f telemetry.Filter) []string {
	metrics := slices.Clone(f.Metrics)
	for _, c := range f.Where {
		metrics = append(metrics, c.Metric)
	}
	if f.Box != nil {
		metrics = append(metrics, "lat", "lon")
	}
	if metrics == nil {
		return []string{}
	}
	return metrics
}

// latest yields the newest values of the series that the filter may need.
func (db *DB) latest(ctx context.Context, tx pgx.Tx, f telemetry.Filter, yield func(*telemetry.Reading) error) error {
	names, err := db.names(ctx, tx, f)
	if err != nil {
		return err
	}
	ids := make([]int32, len(names))
	for i := range names {
		ids[i] = names[i].id
	}
	values := make(map[int32]latest, len(ids))
	if err := db.newest(ctx, tx, ids, func(l latest) { values[l.id] = l }); err != nil {
		return err
	}
	var r telemetry.Reading
	for len(names) > 0 {
		n := 1
		for n < len(names) && names[n].device == names[0].device {
			n++
		}
		gather(&r, names[:n], values)
		names = names[n:]
		if len(r.Metrics) == 0 || !f.Project(&r) {
			continue
		}
		if err := yield(&r); err != nil {
			return err
		}
	}
	return nil
}

// gather makes one reading of a device's newest values.
func gather(r *telemetry.Reading, names []name, values map[int32]latest) {
	*r = telemetry.Reading{Device: names[0].device, Metrics: r.Metrics[:0]}
	for _, n := range names {
		l, ok := values[n.id]
		if !ok {
			continue
		}
		r.Metrics = append(r.Metrics, telemetry.Metric{Name: n.metric, Value: telemetry.Stored(l.value, l.text)})
		if l.time.After(r.Time) {
			r.Time = l.time.UTC()
		}
	}
}

// slice is a stretch of time that one table holds.
type slice struct {
	table    string
	from, to time.Time
}

// slices are the stretches of days in which there is something, in order of time.
func (db *DB) slices(ctx context.Context, q querier) ([]slice, error) {
	if db.timescale() {
		return db.chunks(ctx, q)
	}
	leaves, err := db.leaves(ctx, q)
	list := make([]slice, 0, len(leaves))
	for _, leaf := range leaves {
		d, _ := leafDay(leaf)
		list = append(list, slice{leaf, d.start(), (d + 1).start()})
	}
	slices.Reverse(list)
	return list, err
}

func (db *DB) chunks(ctx context.Context, q querier) ([]slice, error) {
	rows, _ := q.Query(ctx, `
		select range_start, range_end from timescaledb_information.chunks
		where hypertable_name = 'samples' and hypertable_schema = current_schema`)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (slice, error) {
		s := slice{table: "samples"}
		return s, row.Scan(&s.from, &s.to)
	})
	slices.SortFunc(list, func(a, b slice) int { return cmp.Compare(a.from.UnixMicro(), b.from.UnixMicro()) })
	return list, db.explain(err)
}
