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

// tidyAbove is how much garbage may stay mapped: less is not worth a collection.
const tidyAbove = 24 << 20

// tidy gives the system back what a burst has left. By itself the runtime keeps
// twice the heap of the burst until the next collection, which on a quiet
// process comes only every two minutes and leaves most of it mapped.
func tidy(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(samples)
		objects, free, live := samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()
		if objects+free > live+tidyAbove {
			debug.FreeOSMemory()
		}
	}
}
