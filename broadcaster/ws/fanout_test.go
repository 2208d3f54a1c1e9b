package ws_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"millrace/broadcaster/ws"
	"millrace/internal/streamload"
	"millrace/telemetry"
)

// fanout lets a crowd follow everything while readings are appended at a rate.
func fanout(t testing.TB, kind string, clients, rate int, during time.Duration) streamload.Report {
	h := open(t, ws.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var received atomic.Int64
	total := int64(0)
	var spent time.Duration
	report, err := streamload.Run(ctx, streamload.Config{
		URL: h.url, Clients: clients, Kind: kind, Received: &received,
		Ready: func() {
			go func() {
				defer cancel()
				began := time.Now()
				total = h.append(ctx, rate, during)
				patience := time.NewTimer(30 * time.Second)
				defer patience.Stop()
				look := time.NewTicker(time.Millisecond)
				defer look.Stop()
				for received.Load() < total*int64(clients) {
					select {
					case <-look.C:
					case <-patience.C:
						return
					}
				}
				spent = time.Since(began)
			}()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range report.Counts {
		if n != total {
			t.Fatalf("client %d of %d received %d of %d readings", i, clients, n, total)
		}
	}
	if b, ok := t.(*testing.B); ok {
		b.ReportMetric(float64(report.Total())/spent.Seconds(), "delivered/s")
		b.ReportMetric(float64(report.Latency.Quantile(0.5).Microseconds())/1000, "ms-p50")
		b.ReportMetric(float64(report.Latency.Quantile(0.99).Microseconds())/1000, "ms-p99")
	}
	return report
}

// append appends readings at a rate, in steps of a millisecond.
func (h *house) append(ctx context.Context, rate int, during time.Duration) int64 {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, said := time.Now(), 0
	for ctx.Err() == nil {
		since := time.Since(began)
		for want := int(min(since, during).Seconds() * float64(rate)); said < want; said++ {
			r := reading(fmt.Sprintf("truck-%d", said%100), float64(said))
			r.Metrics = append([]telemetry.Metric{
				{Name: "lat", Value: telemetry.Number(52.123)}, {Name: "lon", Value: telemetry.Number(4.321)},
			}, r.Metrics...)
			h.log.append(r)
		}
		if since > during {
			break
		}
		<-tick.C
	}
	return int64(said)
}

func TestFanoutLosesNothing(t *testing.T) {
	for _, kind := range []string{streamload.WS, streamload.SSE} {
		t.Run(kind, func(t *testing.T) {
			report := fanout(t, kind, 50, 500, 500*time.Millisecond)
			for i := range report.Last {
				if report.First[i] == "" || report.Last[i] != report.Last[0] {
					t.Errorf("client %d has seen the cursors %q to %q", i, report.First[i], report.Last[i])
				}
			}
		})
	}
}

// BenchmarkFanout is 1,000 clients that follow everything. Run it with
// -benchtime=1x: each run takes three seconds.
func BenchmarkFanout(b *testing.B) {
	for _, kind := range []string{streamload.WS, streamload.SSE} {
		for _, rate := range []int{1000, 5000, 10_000} {
			b.Run(fmt.Sprintf("%s/rate=%d", kind, rate), func(b *testing.B) {
				for b.Loop() {
					fanout(b, kind, 1000, rate, 3*time.Second)
				}
			})
		}
	}
}
