package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"millrace/internal/streamload"
	"millrace/internal/testkit"
	"millrace/stream"
	"millrace/telemetry"
)

const (
	screens        = 1_000
	screenRate     = 1_000 // readings a second
	screenSeconds  = 15
	screenReadings = screenRate * screenSeconds
)

// BenchmarkScreens: 1,000 screens that follow everything at 1,000 readings a
// second. Every screen must get every reading; it fails otherwise.
func BenchmarkScreens(b *testing.B) {
	log := embeddedLog(b)
	addr := testkit.Loopback(testkit.FreePort(b))
	testkit.Run(b, nil, "broadcast", "--kafka", log, "--http", addr, "--data", b.TempDir()).Says("serving")
	for _, kind := range []string{streamload.WS, streamload.SSE} {
		b.Run(kind, func(b *testing.B) { b.ReportMetric(crowd(b, log, addr, kind), "readings/s") })
	}
}

// crowd lets a crowd follow and answers how many readings a second all of it got.
func crowd(b *testing.B, log, addr, kind string) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	var received atomic.Int64
	var began time.Time
	var took time.Duration
	report, err := streamload.Run(ctx, streamload.Config{
		URL: "http://" + addr, Clients: screens, Kind: kind, Received: &received,
		Ready: func() {
			go func() { // ends when all has arrived, or with ctx, and ends the crowd
				defer cancel()
				began = time.Now()
				publishPaced(b, ctx, log)
				await(ctx, func() bool { return received.Load() >= screens*screenReadings })
				took = time.Since(began)
			}()
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	for i, n := range report.Counts {
		if n != screenReadings {
			b.Fatalf("%s client %d got %d readings of %d", kind, i, n, screenReadings)
		}
	}
	rate := float64(report.Total()) / took.Seconds()
	results.add(row{
		fmt.Sprintf("readings/s on %d screens (%s) that follow all of %d/s", screens, kind, screenRate),
		thousands(rate), fmt.Sprintf("%s of %s delivered, p99 %v late", thousands(float64(report.Total())),
			thousands(screens*screenReadings), report.Latency.Quantile(0.99).Round(time.Millisecond)), "all, none lost",
	})
	return rate
}

// publishPaced appends readings at a steady rate, a hundredth of a second at a time.
func publishPaced(b *testing.B, ctx context.Context, kafka string) {
	b.Helper()
	log, err := stream.Open(ctx, stream.Config{Brokers: []string{kafka}})
	if err != nil {
		b.Error(err)
		return
	}
	defer log.Close()
	producer, err := stream.NewProducer(log, stream.ProducerConfig{})
	if err != nil {
		b.Error(err)
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < screenReadings && ctx.Err() == nil; {
		<-tick.C
		for range screenRate / 100 {
			now := time.Now()
			r := telemetry.Reading{
				Device: fmt.Sprintf("truck-%d", i%100), Time: now.Truncate(time.Microsecond),
				Metrics: []telemetry.Metric{{Name: "speed", Value: telemetry.Number(float64(i))}},
			}
			producer.Append(ctx, telemetry.Entry{Device: r.Device, Value: r.AppendJSON(nil), Received: now},
				func(_ telemetry.Position, err error) {
					if err != nil {
						b.Errorf("append: %v", err)
					}
				})
			i++
		}
	}
	if err := producer.Close(ctx); err != nil {
		b.Error(err)
	}
}

// await polls cond until it holds or ctx ends.
func await(ctx context.Context, cond func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
