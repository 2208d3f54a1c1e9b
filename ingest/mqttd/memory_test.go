package mqttd

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
)

// BenchmarkIdleConnection reports what an idle connection costs: resident bytes
// of this process and its heap in use, for 2,000 connections that have said one
// thing each. The clients are sockets without a goroutine or a buffer.
func BenchmarkIdleConnection(b *testing.B) {
	const connections = 2000
	for range b.N {
		s, stop := start(b, Config{Gate: newQuickGate(b)})
		resident, heap := memory(b)
		for i := range connections {
			c := dialRaw(b, s)
			c.login(4, true, "idle-"+strconv.Itoa(i))
			c.send(publishPacket(4, 2, 1, "telemetry/idle-"+strconv.Itoa(i), `{"temperature":21.5}`))
			c.want(ackPacket(puback, 1))
		}
		moreResident, moreHeap := memory(b)
		b.ReportMetric(float64(moreResident-resident)/connections, "resident-B/conn")
		b.ReportMetric(float64(moreHeap-heap)/connections, "heap-B/conn")
		stop()
	}
}

// memory answers the resident bytes of this process and its heap in use.
func memory(b *testing.B) (resident, heap int) {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	// ps knows it everywhere; /proc only on Linux.
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(os.Getpid())).Output()
	if err != nil {
		b.Fatalf("ps: %v", err)
	}
	kilobytes, err := strconv.Atoi(string(bytes.TrimSpace(out)))
	if err != nil {
		b.Fatal(err)
	}
	return kilobytes << 10, int(stats.HeapInuse)
}
