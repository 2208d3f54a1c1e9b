package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// day is a UTC day, counted from 1970.
type day int32

const microsADay = 24 * 60 * 60 * 1_000_000

// dayOf the time in Unix microseconds; times before 1970 do not occur.
func dayOf(micros int64) day { return day(micros / microsADay) }

func (d day) start() time.Time { return time.UnixMicro(int64(d) * microsADay).UTC() }

// leaf is the table that holds the day's values on the layout plain.
func (d day) leaf() string { return "samples_" + d.start().Format("20060102") }

// days are those whose partitions are known to be there.
type days struct {
	mu    sync.Mutex   // protects known
	known map[day]bool // and whether they have their index
}

// daysAtOnce bounds the locks of one transaction that makes partitions.
const daysAtOnce = 50

// makeDays makes the partitions that are not there, on the layout plain. Each is
// committed by itself before the rows that need it: whoever makes one holds a
// lock on samples that other makers wait for, and must not hold it while it copies.
func (s *Sink) makeDays(ctx context.Context, wanted []day) error {
	if s.db.timescale() {
		return nil
	}
	s.days.mu.Lock()
	defer s.days.mu.Unlock()
	missing := slices.DeleteFunc(slices.Clone(wanted), func(d day) bool { _, ok := s.days.known[d]; return ok })
	for some := range slices.Chunk(missing, daysAtOnce) {
		dates := make([]time.Time, len(some))
		for i, d := range some {
			dates[i] = d.start()
		}
		err := pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('millrace.samples_day'))`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `select make_samples_day(d) from unnest($1::date[]) d`, dates)
			return err
		})
		if err != nil {
			return fmt.Errorf("make partitions of %d days from %s: %w", len(some), some[0].start().Format(time.DateOnly), s.db.explain(err))
		}
		if s.days.known == nil {
			s.days.known = make(map[day]bool)
		}
		for _, d := range some {
			s.days.known[d] = false
		}
	}
	return nil
}

// indexDays makes sure that the partitions can be looked into.
func (s *Sink) indexDays(ctx context.Context, late []value) error {
	if s.db.timescale() {
		return nil
	}
	s.days.mu.Lock()
	defer s.days.mu.Unlock()
	for i := range late {
		d := dayOf(late[i].time)
		if s.days.known[d] {
			continue
		}
		if err := s.db.index(ctx, d.leaf()); err != nil {
			return err
		}
		s.days.known[d] = true
	}
	return nil
}

// index gives the partition its index, if it has none. It waits for the
// transactions that write to it, and they wait for it.
func (db *DB) index(ctx context.Context, leaf string) error {
	if _, err := db.pool.Exec(ctx, `select index_samples_day($1)`, leaf); err != nil {
		return fmt.Errorf("index %s: %w", leaf, db.explain(err))
	}
	return nil
}

// unindexed are the partitions without an index, and their sizes in bytes.
func (db *DB) unindexed(ctx context.Context) (map[string]int64, error) {
	leaves := make(map[string]int64)
	if db.timescale() {
		return leaves, nil
	}
	rows, _ := db.pool.Query(ctx, `select leaf, bytes from unindexed_samples`)
	var leaf string
	var bytes int64
	_, err := pgx.ForEachRow(rows, []any{&leaf, &bytes}, func() error {
		leaves[leaf] = bytes
		return nil
	})
	return leaves, db.explain(err)
}

// indexAll is for whoever is about to look into any partition.
func (db *DB) indexAll(ctx context.Context) error {
	leaves, err := db.unindexed(ctx)
	if err != nil {
		return err
	}
	for leaf := range leaves {
		if err := db.index(ctx, leaf); err != nil {
			return err
		}
	}
	return nil
}

// forgetDays makes the next batch look again: somebody may have dropped one.
func (s *Sink) forgetDays() {
	s.days.mu.Lock()
	s.days.known = nil
	s.days.mu.Unlock()
}

// leaves are the tables to look for newest values in, newest first. The layout
// timescale has one: its own planner walks the chunks in that order.
func (db *DB) leaves(ctx context.Context, q querier) ([]string, error) {
	if db.timescale() {
		return []string{"samples"}, nil
	}
	rows, _ := q.Query(ctx, `
		select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'samples'::regclass order by c.relname desc`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return slices.DeleteFunc(names, func(name string) bool { return !isLeaf(name) }), db.explain(err)
}

// isLeaf keeps names out that an administrator may have given.
func isLeaf(name string) bool {
	_, ok := leafDay(name)
	return ok
}

func leafDay(name string) (day, bool) {
	digits, ok := strings.CutPrefix(name, "samples_")
	t, err := time.Parse("20060102", digits)
	if !ok || err != nil {
		return 0, false
	}
	return dayOf(t.UnixMicro()), true
}

// idsAtOnce bounds the series of one query.
const idsAtOnce = 20_000

// latest is a series' newest value.
type latest struct {
	id    int32
	time  time.Time
	value *float64
	text  *string
}

// newest calls yield with the newest value of each of the series that has one.
// It goes from the newest day back, and asks each day only for the series that
// no newer day had: for live series that is one probe of one index each.
func (db *DB) newest(ctx context.Context, q querier, ids []int32, yield func(latest)) error {
	leaves, err := db.leaves(ctx, q)
	if err != nil {
		return err
	}
	rest := slices.Sorted(slices.Values(ids))
	found := make(map[int32]bool)
	for _, leaf := range leaves {
		clear(found)
		for some := range slices.Chunk(rest, idsAtOnce) {
			err := db.newestIn(ctx, q, leaf, some, func(l latest) {
				found[l.id] = true
				yield(l)
			})
			if err != nil {
				return err
			}
		}
		rest = slices.DeleteFunc(rest, func(id int32) bool { return found[id] })
		if len(rest) == 0 {
			return nil
		}
	}
	return nil
}

func (db *DB) newestIn(ctx context.Context, q querier, leaf string, ids []int32, yield func(latest)) error {
	rows, _ := q.Query(ctx, `
		select k.id, s."time", s.value, s.text from unnest($1::int[]) k(id)
		cross join lateral (
			select "time", value, text from `+leaf+` where series_id = k.id
			order by "time" desc limit 1) s`, ids)
	var l latest
	_, err := pgx.ForEachRow(rows, []any{&l.id, &l.time, &l.value, &l.text}, func() error {
		yield(l)
		return nil
	})
	return db.explain(err)
}

// at is a value's place in samples.
type at struct {
	id   int32
	time int64 // Unix microseconds
}

// lookup calls yield with the values that stand at the places, at most two for
// each; i is the place's index. On the layout plain it asks each day's table, on
// timescale each day's chunks; the limit keeps the planner at probing the index,
// whatever it thinks of the size of a table that it has not analysed yet.
func (db *DB) lookup(ctx context.Context, tx pgx.Tx, places []at, yield func(i int, value *float64, text *string)) error {
	byDay := make(map[day][]int32)
	for i, p := range places {
		d := dayOf(p.time)
		byDay[d] = append(byDay[d], int32(i))
	}
	var q pgx.Batch
	for d, indexes := range byDay {
		ids, times := make([]int32, len(indexes)), make([]time.Time, len(indexes))
		for k, i := range indexes {
			ids[k], times[k] = places[i].id, time.UnixMicro(places[i].time)
		}
		q.Queue(`
			select k.i, s.value, s.text
			from unnest($1::int[], $2::int[], $3::timestamptz[]) k(i, id, at)
			cross join lateral (
				select value, text from `+db.table(d)+` where series_id = k.id and "time" = k.at
				and "time" >= $4 and "time" < $5 limit 2) s`,
			indexes, ids, times, d.start(), (d + 1).start()).Query(func(rows pgx.Rows) error {
			var i int32
			var value *float64
			var text *string
			_, err := pgx.ForEachRow(rows, []any{&i, &value, &text}, func() error {
				yield(int(i), value, text)
				return nil
			})
			return err
		})
	}
	return db.explain(tx.SendBatch(ctx, &q).Close())
}

// table that holds a day.
func (db *DB) table(d day) string {
	if db.timescale() {
		return "samples"
	}
	return d.leaf()
}
