package storage

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// scan is a walk over readings in order of (time, device), or against it.
type scan struct {
	after  telemetry.Cursor // behind it; ascending: the zero one is the beginning
	from   time.Time        // at or behind it
	to     time.Time        // before it; zero: all there is
	desc   bool             // newest first
	filter telemetry.Filter
}

// The walk goes in windows of time, sized so that the server sorts about this
// many rows at once: it never sorts a whole day in order to give the first row.
const (
	windowRows  = 50_000
	firstWindow = time.Minute
	lastWindow  = 24 * time.Hour
)

// scan calls yield with each reading that matches. The reading is reused.
func (db *DB) scan(ctx context.Context, tx pgx.Tx, s scan, yield func(*telemetry.Reading) error) error {
	w := walk{db: db, tx: tx, scan: s, yield: yield, width: firstWindow}
	if len(s.filter.Devices) > 0 || len(s.filter.Metrics) > 0 {
		names, err := db.names(ctx, tx, s.filter)
		if err != nil || len(names) == 0 {
			return err
		}
		w.ids = make([]int32, len(names))
		for i := range names {
			w.ids[i] = names[i].id
		}
	}
	list, err := db.slices(ctx, tx)
	if err != nil {
		return err
	}
	if s.desc {
		slices.Reverse(list)
	}
	from, to := s.bounds()
	for _, day := range list {
		if day.from.Before(from) {
			day.from = from
		}
		if !to.IsZero() && day.to.After(to) {
			day.to = to
		}
		if err := w.slice(ctx, day); err != nil {
			return err
		}
	}
	return nil
}

// bounds are the scan's ends with its cursor taken into account: the cursor's
// own time is within, because other devices may have spoken then.
func (s *scan) bounds() (from, to time.Time) {
	from, to = s.from, s.to
	if !s.after.InPast() {
		return from, to
	}
	if !s.desc {
		if s.after.Time.After(from) {
			from = s.after.Time
		}
		return from, to
	}
	if end := s.after.Time.Add(time.Microsecond); to.IsZero() || end.Before(to) {
		to = end
	}
	return from, to
}

type walk struct {
	scan
	db    *DB
	tx    pgx.Tx
	ids   []int32 // series; nil: all
	yield func(*telemetry.Reading) error
	width time.Duration
	open  telemetry.Reading // being put together
}

// slice walks through a stretch, window by window. A reading's rows have one
// time, so no window divides a reading.
func (w *walk) slice(ctx context.Context, day slice) error {
	for day.from.Before(day.to) {
		part := day
		if w.desc {
			part.from = day.to.Add(-w.width)
			if part.from.Before(day.from) {
				part.from = day.from
			}
			day.to = part.from
		} else {
			part.to = day.from.Add(w.width)
			if part.to.After(day.to) {
				part.to = day.to
			}
			day.from = part.to
		}
		n, err := w.window(ctx, part)
		if err != nil {
			return err
		}
		switch {
		case n > 2*windowRows:
			w.width = max(w.width/2, time.Millisecond)
		case n < windowRows/4:
			w.width = min(w.width*4, lastWindow)
		}
	}
	return nil
}

// window yields the readings of one stretch and says how many rows they were.
func (w *walk) window(ctx context.Context, part slice) (int, error) {
	direction := ""
	if w.desc {
		direction = " desc"
	}
	which := "series"
	args := []any{part.from, part.to}
	if w.ids != nil {
		which = `(select * from series where id = any($3::int[]))`
		args = append(args, w.ids)
	}
	// Series by series, because that is how samples are indexed; "offset 0" keeps
	// the planner at it.
	sql := `select s."time", n.device, n.metric, s.value, s.text
		from ` + which + ` n cross join lateral (
			select "time", value, text from ` + part.table + `
			where series_id = n.id and "time" >= $1 and "time" < $2 offset 0) s`
	sql += ` order by s."time"` + direction + `, n.device` + direction + `, n.metric`
	rows, _ := w.tx.Query(ctx, sql, args...)
	var at time.Time
	var device, metric string
	var number *float64
	var text *string
	count := 0
	var stopped error
	_, err := pgx.ForEachRow(rows, []any{&at, &device, &metric, &number, &text}, func() error {
		count++
		if device != w.open.Device || !at.Equal(w.open.Time) {
			if stopped = w.close(); stopped != nil {
				return stopped
			}
			w.open.Device, w.open.Time = device, at.UTC()
		}
		w.open.Metrics = append(w.open.Metrics, telemetry.Metric{Name: metric, Value: telemetry.Stored(number, text)})
		return nil
	})
	if stopped != nil {
		return count, stopped
	}
	if err != nil {
		return count, w.db.explain(err)
	}
	return count, w.close()
}

// close yields the reading that is complete now.
func (w *walk) close() error {
	r := w.open
	w.open.Device, w.open.Metrics = "", w.open.Metrics[:0]
	if r.Device == "" || w.before(&r) || !w.filter.Project(&r) {
		return nil
	}
	return w.yield(&r)
}

// before says whether the reading stands at the cursor's time, but not behind it.
func (w *walk) before(r *telemetry.Reading) bool {
	if !w.after.InPast() || !r.Time.Equal(w.after.Time) || w.after.Device == "" {
		return false
	}
	if w.desc {
		return r.Device >= w.after.Device
	}
	return r.Device <= w.after.Device
}

// globs divides globs into names and patterns for LIKE.
func globs(list []string) (exact, like []string) {
	exact, like = []string{}, []string{}
	escape := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`)
	for _, g := range list {
		if strings.ContainsAny(g, "*?") {
			like = append(like, escape.Replace(g))
		} else {
			exact = append(exact, g)
		}
	}
	return exact, like
}
