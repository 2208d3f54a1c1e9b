package storage

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// RollupsConfig is how rollups are kept. The zero value is usable.
type RollupsConfig struct {
	// Every is how often to look for slots to roll up; 0: 5 s.
	Every time.Duration
	// Quiet is for how long a slot of ten minutes must not have changed; 0: 15 s.
	Quiet  time.Duration
	Log    *slog.Logger
	Events Events
}

// Rollups keeps the layout plain fast to query. The rollups are right without
// it: what it has not rolled up yet, the views compute from the values. It also
// gives partitions their index, once they have filled.
// On the layout timescale the server's own jobs do that, and Run only waits.
// Several processes may run it at once; one at a time works.
type Rollups struct {
	db   *DB
	cfg  RollupsConfig
	seen map[string]filling // Run's: partitions without an index
}

// filling is a partition without an index, as the last looks found it.
type filling struct {
	bytes int64
	looks int
}

// fillingLooks is how often a partition is left without its index while it grows:
// half a minute, by default.
const fillingLooks = 6

// NewRollups keeps the rollups of db.
func NewRollups(db *DB, cfg RollupsConfig) *Rollups {
	if cfg.Every <= 0 {
		cfg.Every = 5 * time.Second
	}
	if cfg.Quiet <= 0 {
		cfg.Quiet = 15 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Rollups{db: db, cfg: cfg}
}

// Run rolls up what has become quiet until ctx is cancelled, and then returns
// nil. A database that is away is waited for.
func (r *Rollups) Run(ctx context.Context) error {
	if r.db.timescale() {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := r.index(ctx)
		if err == nil {
			err = r.rollQuiet(ctx, r.cfg.Quiet)
		}
		if err != nil && ctx.Err() == nil {
			r.cfg.Log.Warn("rollups: not rolled up now; queries compute from the values", slog.String("error", err.Error()))
		}
	}
}

// index gives an index to the partitions that have stopped growing, or grew for
// long enough without one.
func (r *Rollups) index(ctx context.Context) error {
	leaves, err := r.db.unindexed(ctx)
	if err != nil {
		return err
	}
	next := make(map[string]filling, len(leaves))
	for leaf, bytes := range leaves {
		before, ok := r.seen[leaf]
		if !ok || before.bytes != bytes && before.looks < fillingLooks {
			next[leaf] = filling{bytes, before.looks + 1}
			continue
		}
		if err := r.db.index(ctx, leaf); err != nil {
			return err
		}
	}
	r.seen = next
	return nil
}

// Refresh rolls up all there is, however new, and returns when that is done.
func (r *Rollups) Refresh(ctx context.Context) error {
	if !r.db.timescale() {
		if err := r.db.indexAll(ctx); err != nil {
			return fmt.Errorf("rollups: %w", err)
		}
		return r.rollQuiet(ctx, -time.Hour)
	}
	for _, name := range []string{"rollup_1m", "rollup_1h", "rollup_1d"} {
		_, err := r.db.pool.Exec(ctx, `call refresh_continuous_aggregate('`+name+`', null, null)`)
		if err != nil {
			return fmt.Errorf("rollups: refresh %s: %w", name, r.db.explain(err))
		}
	}
	return nil
}

// slotsAtOnce bounds a transaction: half a day.
const slotsAtOnce = 72

func (r *Rollups) rollQuiet(ctx context.Context, quiet time.Duration) error {
	for {
		start := time.Now()
		n, err := r.roll(ctx, quiet)
		if err != nil {
			return fmt.Errorf("rollups: %w", r.db.explain(err))
		}
		if n > 0 {
			r.cfg.Events.rolled(n, time.Since(start))
		}
		if n < slotsAtOnce {
			return nil
		}
	}
}

// compactSQL leaves one row a slot, the newest: a busy slot gets one a transaction.
const compactSQL = `
	delete from rollup_dirty a where exists (
		select from rollup_dirty b where b.slot = a.slot and (b.touched, b.ctid) > (a.touched, a.ctid))`

// rollSQL rolls the slots $1 up. The dirty rows go first: each statement sees what
// was committed before it began, so a value that is not in the rollup has its
// dirty row still there. An hour or a day is rolled once none of its slots is
// dirty; until then the views do not look at its row.
var rollSQL = []string{
	`delete from rollup_dirty where slot = any($1::timestamptz[])`,
	`delete from rollup_1m r using unnest($1::timestamptz[]) slot
	 where r.bucket >= slot and r.bucket < slot + interval '10 minutes'`,
	`insert into rollup_1m
	 select n.id, s.* from unnest($1::timestamptz[]) slot cross join series n cross join lateral (
		select date_trunc('minute', v."time", 'UTC'), count(v.value), sum(v.value), min(v.value), max(v.value),
			(array_agg(v.value order by v."time"))[1], (array_agg(v.value order by v."time" desc))[1]
		from samples v
		where v.series_id = n.id and v."time" >= slot and v."time" < slot + interval '10 minutes' and v.value is not null
		group by 1 offset 0) s`,
	`delete from rollup_1h r using (
		select distinct date_trunc('hour', slot, 'UTC') as hour from unnest($1::timestamptz[]) slot) h
	 where r.bucket = h.hour`,
	`insert into rollup_1h
	 select m.series_id, h.hour, sum(m.count), sum(m.sum), min(m.min), max(m.max),
		(array_agg(m.first order by m.bucket))[1], (array_agg(m.last order by m.bucket desc))[1]
	 from (select distinct date_trunc('hour', slot, 'UTC') as hour from unnest($1::timestamptz[]) slot) h
	 join rollup_1m m on m.bucket >= h.hour and m.bucket < h.hour + interval '1 hour'
	 where not exists (select from rollup_dirty d where d.slot >= h.hour and d.slot < h.hour + interval '1 hour')
	 group by 1, 2`,
	`delete from rollup_1d r using (
		select distinct date_trunc('day', slot, 'UTC') as day from unnest($1::timestamptz[]) slot) d
	 where r.bucket = d.day`,
	`insert into rollup_1d
	 select h.series_id, y.day, sum(h.count), sum(h.sum), min(h.min), max(h.max),
		(array_agg(h.first order by h.bucket))[1], (array_agg(h.last order by h.bucket desc))[1]
	 from (select distinct date_trunc('day', slot, 'UTC') as day from unnest($1::timestamptz[]) slot) y
	 join rollup_1h h on h.bucket >= y.day and h.bucket < y.day + interval '24 hours'
	 where not exists (select from rollup_dirty d where d.slot >= y.day and d.slot < y.day + interval '24 hours')
	 group by 1, 2`,
}

// roll rolls some slots up and says how many.
func (r *Rollups) roll(ctx context.Context, quiet time.Duration) (int, error) {
	var slots []time.Time
	err := pgx.BeginFunc(ctx, r.db.pool, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `select pg_try_advisory_xact_lock(hashtext('millrace.rollups'))`).Scan(&mine); err != nil || !mine {
			return err
		}
		if _, err := tx.Exec(ctx, compactSQL); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, `
			select slot from rollup_dirty d
			where not exists (select from unindexed_samples u where u.leaf = 'samples_' || to_char(d.slot at time zone 'UTC', 'YYYYMMDD'))
			group by slot having max(touched) < now() - $1::interval
			order by slot limit $2`, quiet, slotsAtOnce)
		var err error
		if slots, err = pgx.CollectRows(rows, pgx.RowTo[time.Time]); err != nil || len(slots) == 0 {
			return err
		}
		for _, sql := range rollSQL {
			if _, err := tx.Exec(ctx, sql, slots); err != nil {
				return err
			}
		}
		return nil
	})
	return len(slots), err
}
