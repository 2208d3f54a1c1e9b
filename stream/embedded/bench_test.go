package embedded

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkMemory: the memory of a log that is never done. Each record is a
// batch of its own, as they are when few devices speak: the worst there is for
// the index. After a million records it has removed most of them; then it is
// opened again as after a crash.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		fillAndCrash(b, dir)
		debug.FreeOSMemory()
		resetPeak(b)
		again := start(b, Config{Dir: dir, segment: segmentBytes})
		b.ReportMetric(memory(b, "VmHWM"), "MB-peak-opening")
		report(b, "opened")
		again.Close()
	}
}

func fillAndCrash(b *testing.B, dir string) {
	const records = 1_000_000
	br := start(b, Config{Dir: dir, segment: segmentBytes})
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error)
	go func() { ended <- br.Run(ctx) }()
	client := dial(b, br, kgo.ProducerBatchMaxBytes(512))
	createTopic(b, client, 8)
	resetPeak(b)
	var wait sync.WaitGroup
	for i := range records {
		wait.Add(1)
		record := &kgo.Record{Partition: int32(i % 8), Value: fmt.Appendf(nil, "%0250d", i)}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
			wait.Done()
		})
		if i == records/3 {
			wait.Wait()
			report(b, "third")
		}
	}
	wait.Wait()
	client.Close()
	report(b, "full")
	cancel()
	<-ended
	for p := range 8 { // as after kill -9
		_ = os.Remove(fmt.Sprintf("%s/%s/t-%d/%s", dir, partitionsName, p, snapshotName))
	}
}

// report gives the heap in use and the resident memory at rest.
func report(b *testing.B, when string) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MB-heap-"+when)
	b.ReportMetric(memory(b, "VmRSS"), "MB-rss-"+when)
}

// resetPeak makes VmHWM begin anew.
func resetPeak(b *testing.B) {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Log(err)
	}
}

// memory is a value of /proc/self/status, in MiB.
func memory(b *testing.B, name string) float64 {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), name+":")
	kilobytes, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kilobytes / 1024
}
