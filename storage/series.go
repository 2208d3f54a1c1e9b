package storage

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// What is known of a series' newest time beside a time: nothing, or that the
// series has no value yet.
const (
	newestUnknown = math.MinInt64
	newestNever   = math.MinInt64 + 1
)

// partition is what the sink knows of a partition it holds.
type partition struct {
	fence
	id    int32
	stale bool // the last transaction failed or has an unknown outcome
	// devices and their series. A device's readings all come by one partition,
	// so nobody else writes these series while the fence holds.
	devices map[string]*device
	names   map[string]string // metric names, each in memory once
	known   int               // series in devices
}

type device struct {
	name   string
	since  time.Time // receipt of the first reading seen of it here
	seen   int64     // Unix seconds: what the database has, or is told by the current batch
	series []series
	index  map[string]int32 // of series, once they are many
}

// series of a device: 32 bytes each.
type series struct {
	metric string
	newest int64 // Unix microseconds of the newest value stored, or newestUnknown, newestNever
	id     int32 // in the database; 0: not known yet
	mark   int32 // the batch's index of it, if that has this series there
}

// manySeries is the length from which looking through a device's series in
// order costs more than a map.
const manySeries = 32

func (p *partition) device(name string, received time.Time) *device {
	d := p.devices[name]
	if d == nil {
		if p.devices == nil {
			p.devices, p.names = make(map[string]*device), make(map[string]string)
		}
		d = &device{name: name, since: received}
		p.devices[name] = d
	}
	return d
}

// find is the index of the series of a metric, made if need be. A device says
// the same metrics in the same order again and again: hint is where the last
// one was found, and the next is usually right behind it.
func (p *partition) find(d *device, metric string, hint int) int {
	n := len(d.series)
	if n < manySeries {
		for i := range n {
			at := hint + 1 + i
			if at >= n {
				at -= n
			}
			if d.series[at].metric == metric {
				return at
			}
		}
	} else {
		if at := hint + 1; at < n && d.series[at].metric == metric {
			return at
		}
		if at, ok := d.index[metric]; ok {
			return int(at)
		}
	}
	return p.add(d, metric)
}

func (p *partition) add(d *device, metric string) int {
	name, ok := p.names[metric]
	if !ok {
		name = metric
		p.names[name] = name
	}
	d.series = append(d.series, series{metric: name, newest: newestUnknown})
	p.known++
	n := len(d.series)
	if n == manySeries {
		d.index = make(map[string]int32, 2*manySeries)
		for i := range d.series {
			d.index[d.series[i].metric] = int32(i)
		}
	} else if n > manySeries {
		d.index[name] = int32(n - 1)
	}
	return n - 1
}

// place is a series of a device: stable while the device's series grow.
type place struct {
	device *device
	at     int32
}

func (p place) series() *series { return &p.device.series[p.at] }

// identify gives ids to the series that have none, in one round trip, making
// what is not there. It is a transaction of its own: an id is never wrong, even
// if the batch fails, and so two sinks that make the same series wait for each
// other only this long. Rows are inserted in one order everywhere, so they
// cannot wait for each other in a circle.
func (db *DB) identify(ctx context.Context, places []place) error {
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(strings.Compare(a.device.name, b.device.name), strings.Compare(a.series().metric, b.series().metric))
	})
	names, metrics := make([]string, len(places)), make([]string, len(places))
	at := make([]time.Time, len(places))
	for i, p := range places {
		names[i], metrics[i], at[i] = p.device.name, p.series().metric, p.device.since
	}
	var q pgx.Batch
	q.Queue(`
		insert into devices (name, created, seen)
		select name, at, at from unnest($1::text[], $2::timestamptz[]) k(name, at)
		group by name, at order by name collate "C" on conflict do nothing`, names, at)
	fresh := make(map[int32]bool)
	q.Queue(`
		insert into series (device, metric)
		select device, metric from unnest($1::text[], $2::text[]) k(device, metric)
		where not exists (select from series s where s.device = k.device and s.metric = k.metric)
		order by device collate "C", metric collate "C" on conflict do nothing
		returning id`, names, metrics).Query(func(rows pgx.Rows) error {
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		for _, id := range ids {
			fresh[id] = true
		}
		return err
	})
	found := 0
	q.Queue(`
		select s.id, (k.at - 1)::int
		from unnest($1::text[], $2::text[]) with ordinality k(device, metric, at)
		join series s on s.device = k.device and s.metric = k.metric`, names, metrics).Query(func(rows pgx.Rows) error {
		var id, i int32
		_, err := pgx.ForEachRow(rows, []any{&id, &i}, func() error {
			s := places[i].series()
			s.id = id
			if fresh[id] {
				s.newest = newestNever
			}
			found++
			return nil
		})
		return err
	})
	if err := db.pool.SendBatch(ctx, &q).Close(); err != nil {
		return fmt.Errorf("name %d series: %w", len(places), db.explain(err))
	}
	if found != len(places) {
		return fmt.Errorf("name %d series: the database found %d of them", len(places), found)
	}
	return nil
}
