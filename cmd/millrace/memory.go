package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"millrace/broadcaster"
)

// Under 'up' everything shares one process beside PostgreSQL, often on a small
// machine, so it keeps less in memory than a role of its own would.

// smallHub is the hub's limits under 'up': some minutes of a hundred devices.
// Who is further behind reads from the log.
func smallHub() broadcaster.Limits {
	return broadcaster.Limits{RingBytes: 8 << 20, RingReadings: 1 << 16, SharedBytes: 8 << 20}
}

// How much garbage there may be, in per cent of what lives: little while it is
// quiet, for it costs next to nothing then; Go's own measure while it is busy.
const (
	quietGarbage = 25
	busyGarbage  = 100
	// busyCycles is how many collections a second make a process busy.
	busyCycles = 1
	tidyEvery  = 5 * time.Second
	// tidyAbove is how much memory that nobody uses stays mapped.
	tidyAbove = 16 << 20
)

// tidy gives the system back what a burst has left. By itself the runtime keeps
// twice what lived in the burst until a collection, which on a quiet process
// comes only every two minutes, and leaves most of it mapped.
func tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	defer debug.SetGCPercent(debug.SetGCPercent(busyGarbage)) // what it was
	samples := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	cycles := samples[0].Value.Uint64()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(samples)
		now, free := samples[0].Value.Uint64(), samples[1].Value.Uint64()
		if now-cycles > busyCycles*uint64(tidyEvery/time.Second) {
			debug.SetGCPercent(busyGarbage)
		} else {
			debug.SetGCPercent(quietGarbage)
			if free > tidyAbove {
				debug.FreeOSMemory()
			}
		}
		cycles = now
	}
}
