package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/internal/testkit"
)

// BenchmarkRest: what 'millrace up' costs while 100 devices speak once a
// second: resident memory without PostgreSQL's, and how long the second start
// takes until a reading is on a screen.
func BenchmarkRest(b *testing.B) {
	d := newHome(b)
	p, _ := d.up(b)
	testkit.Wait(b, "the fleet to have spoken for half a minute", func() bool { return d.readings(b) > 3_000 })
	resident := memory(b, p.Pid())
	p.Interrupt()
	p, took := d.up(b)
	p.Interrupt()
	b.ReportMetric(float64(resident)/1e6, "MB")
	b.ReportMetric(took.Seconds(), "s/second-start")
	results.add(row{"MB resident of 'up' at rest, 100 devices", fmt.Sprintf("%.0f", float64(resident)/1e6), "PostgreSQL not counted", "under 100"})
	results.add(row{"seconds from the second start to the first reading on a screen", fmt.Sprintf("%.1f", took.Seconds()), "-", "-"})
}

// home is where a 'millrace up' lives.
type home struct{ data, mqtt, http, kafka, postgres string }

func newHome(b *testing.B) *home {
	b.Helper()
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // PostgreSQL's user must reach it
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &home{data: filepath.Join(dir, "data")}
	for _, addr := range []*string{&d.mqtt, &d.http, &d.kafka, &d.postgres} {
		*addr = testkit.Loopback(testkit.FreePort(b))
	}
	return d
}

// up starts it and waits until a screen has seen a reading; it answers how long
// that took.
func (d *home) up(b *testing.B) (*testkit.Program, time.Duration) {
	b.Helper()
	began := time.Now()
	p := testkit.Run(b, nil, "up", "--fleet", "100", "--data", d.data, "--mqtt", d.mqtt, "--http", d.http,
		"--kafka-listen", d.kafka, "--postgres-listen", d.postgres)
	p.Says("Ctrl-C")
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.http+"/v1/stream", nil)
	if err != nil {
		b.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	buffer, seen := make([]byte, 4096), ""
	for !strings.Contains(seen, `data: {"device"`) {
		n, err := response.Body.Read(buffer)
		if err != nil {
			b.Fatalf("no reading came: %v", err)
		}
		seen += string(buffer[:n])
	}
	return p, time.Since(began)
}

// readings in the log, as the status page has it.
func (d *home) readings(b *testing.B) int64 {
	b.Helper()
	response, err := http.Get("http://" + d.http + "/v1/status")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	var status struct{ Log []struct{ Next int64 } }
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		b.Fatal(err)
	}
	var n int64
	for _, p := range status.Log {
		n += p.Next
	}
	return n
}

// memory is a process's resident bytes, its children's not.
func memory(b *testing.B, pid int) int64 {
	b.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	var kilobytes int64
	for line := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
				b.Fatal(err)
			}
		}
	}
	return kilobytes << 10
}
