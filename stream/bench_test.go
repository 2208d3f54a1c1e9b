package stream_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/internal/testkit"
	"millrace/stream"
	"millrace/stream/embedded"
	"millrace/telemetry"
)

// brokers are those that figures are taken of.
var brokers = map[string]func(testing.TB) string{
	"embedded":        func(t testing.TB) string { return startEmbedded(t, false) },
	"embedded-nosync": func(t testing.TB) string { return startEmbedded(t, true) },
	"kafka":           testkit.Kafka,
}

func startEmbedded(t testing.TB, noSync bool) string {
	b, err := embedded.Start(t.Context(), embedded.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), NoSync: noSync})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.Addr()
}

// BenchmarkAppend: acknowledged appends of readings of about 100 bytes by 1,000
// devices, as many in flight as there is room for.
func BenchmarkAppend(b *testing.B) {
	for name, start := range brokers {
		for _, compression := range []stream.Compression{stream.None, stream.Gzip, stream.Snappy, stream.LZ4, stream.Zstd} {
			b.Run(fmt.Sprintf("%s/%s", name, compression), func(b *testing.B) {
				l := openLog(b, stream.Config{Brokers: []string{start(b)}, Prefix: testkit.Name(b)})
				p := newProducer(b, l, stream.ProducerConfig{Compression: compression})
				benchAppend(b, p)
			})
		}
	}
}

func benchAppend(b *testing.B, p *stream.Producer) {
	entries := make([]telemetry.Entry, 10_000)
	for i := range entries {
		entries[i] = entry(fmt.Sprintf("truck-%d", i%1000), i)
	}
	var wait sync.WaitGroup
	var failed atomic.Int64
	done := func(_ telemetry.Position, err error) {
		if err != nil {
			failed.Add(1)
		}
		wait.Done()
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := entries[i%len(entries)]
		e.Received = time.Now()
		wait.Add(1)
		p.Append(b.Context(), e, done)
		i++
	}
	wait.Wait()
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "acked/s")
	if failed.Load() > 0 {
		b.Errorf("%d failed", failed.Load())
	}
}

// BenchmarkConsume: records through a consumer into a handler that only counts.
func BenchmarkConsume(b *testing.B) {
	const records = 500_000
	for name, start := range brokers {
		b.Run(name, func(b *testing.B) {
			l := openLog(b, stream.Config{Brokers: []string{start(b)}, Prefix: testkit.Name(b)})
			p := newProducer(b, l, stream.ProducerConfig{})
			var wait sync.WaitGroup
			for i := range records {
				wait.Add(1)
				p.Append(b.Context(), entry(fmt.Sprintf("truck-%d", i%1000), i), func(telemetry.Position, error) { wait.Done() })
			}
			wait.Wait()
			b.ReportAllocs()
			for round := 0; b.Loop(); round++ {
				c := &counter{enough: make(chan struct{}), want: records}
				stop := consume(b, l.Readings(), fmt.Sprint("bench", round), c, stream.ConsumerConfig{})
				<-c.enough
				stop()
				b.ReportMetric(float64(records)/float64(c.batches), "records/batch")
			}
			b.ReportMetric(records*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkShortFollow: what a client that resumes costs: ten records from a cursor.
func BenchmarkShortFollow(b *testing.B) {
	l := openLog(b, stream.Config{Brokers: []string{startEmbedded(b, true)}})
	p := newProducer(b, l, stream.ProducerConfig{})
	_, from, err := l.Readings().Bounds(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	fill(b, p, 1, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	_, to, err := l.Readings().Bounds(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		read(b, l.Readings(), from, to)
	}
}

// TestAppendAllocations holds the hot path: the append, its texts, and what the
// client takes for its place in a batch.
func TestAppendAllocations(t *testing.T) {
	l := openLog(t, stream.Config{Brokers: []string{startEmbedded(t, true)}})
	p := newProducer(t, l, stream.ProducerConfig{})
	var wait sync.WaitGroup
	done := func(telemetry.Position, error) { wait.Done() }
	e := entry("truck-7", 1)
	fill(t, p, 1000, "truck-7")
	const n = 50_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		wait.Add(1)
		p.Append(t.Context(), e, done)
	}
	wait.Wait()
	runtime.ReadMemStats(&after)
	// The broker in this process is counted too; it takes little for a batch.
	if each := float64(after.Mallocs-before.Mallocs) / n; each > 3 {
		t.Errorf("an append takes %.1f allocations, more than 3", each)
	} else {
		t.Logf("an append takes %.2f allocations", each)
	}
}
