package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"millrace/internal/testkit"
	"millrace/storage"
	"millrace/telemetry"
)

// sameRollups compares each rollup with a group-by over the values.
func (b *bundle) sameRollups(when string) {
	b.t.Helper()
	for view, unit := range map[string]string{"telemetry_1m": "minute", "telemetry_1h": "hour", "telemetry_1d": "day"} {
		got := b.query(`select bucket, device, metric, count, sum, min, max, first, last, avg from ` + view + ` order by 1, 2, 3`)
		want := b.query(`
			select date_trunc('` + unit + `', time, 'UTC'), device, metric, count(value), sum(value), min(value), max(value),
				(array_agg(value order by time))[1], (array_agg(value order by time desc))[1], avg(value)
			from telemetry where value is not null group by 1, 2, 3 order by 1, 2, 3`)
		equal(b.t, view+" "+when, got, want)
		if got == "" {
			b.t.Errorf("%s %s: nothing in it", view, when)
		}
	}
}

// exerciseRollups: whatever comes late, the rollups are the group-by of the
// values: always on the layout plain, after a refresh on timescale.
func exerciseRollups(t *testing.T, fresh func(*testing.T) *bundle) {
	b := fresh(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	h := b.sink(0)
	rollups := storage.NewRollups(b.db, storage.RollupsConfig{})
	for round := range 5 {
		var batch []telemetry.Record
		for range 150 {
			// Whole numbers of few digits: their sums do not depend on the order.
			line := fmt.Sprintf(`truck-%d %.1f speed=%d state="x" moving=true`, rnd.IntN(2), rnd.Float64()*200_000, rnd.IntN(100))
			batch = append(batch, b.say(0, line))
		}
		b.handle(h, batch...)
		if b.db.Layout() == storage.LayoutPlain {
			b.sameRollups(fmt.Sprintf("in round %d, before it is rolled up", round))
			if round%2 == 0 {
				continue
			}
		}
		if err := rollups.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.sameRollups(fmt.Sprintf("in round %d, rolled up", round))
	}
	if b.db.Layout() == storage.LayoutPlain {
		if err := rollups.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		equal(t, "dirty slots", b.query(`select count(*) from rollup_dirty`), "0\n")
	}
}

// TestRollupsRun: the service rolls up what is quiet, beside a sink at work.
func TestRollupsRun(t *testing.T) {
	t.Parallel()
	b := plain(t)
	rolled := make(chan int, 1000)
	rollups := storage.NewRollups(b.db, storage.RollupsConfig{
		Every: time.Millisecond, Quiet: time.Millisecond,
		Events: storage.Events{Rolled: func(slots int, _ time.Duration) { rolled <- slots }},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- rollups.Run(ctx) }() // ends with cancel, below
	h := b.sink(0)
	for s := range 40 {
		b.handle(h, b.say(0, fmt.Sprintf("truck-1 %d speed=%d", s*700, s)), b.say(0, fmt.Sprintf("truck-1 %d speed=%d", s*350+1, s)))
		b.sameRollups(fmt.Sprint("after batch ", s))
	}
	<-rolled
	testkit.Wait(t, "all slots to be rolled up", func() bool { return b.query(`select count(*) from rollup_dirty`) == "0\n" })
	b.sameRollups("at the end")
	equal(t, "partitions without an index", b.query(`select leaf from unindexed_samples`), "")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
