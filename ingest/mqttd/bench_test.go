package mqttd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"millrace/internal/mqttload"
)

// BenchmarkQoS1 is acknowledged messages a second, ours with a gate that keeps
// everything at once, and Debian's mosquitto beside it in the same run.
func BenchmarkQoS1(b *testing.B) {
	for _, load := range []struct{ connections, inFlight int }{{100, 64}, {1000, 8}, {1000, 1}} {
		name := fmt.Sprintf("%dx%d", load.connections, load.inFlight)
		config := mqttload.Config{QoS: 1, Connections: load.connections, InFlight: load.inFlight}
		b.Run("millrace/"+name, func(b *testing.B) {
			s, _ := start(b, Config{Gate: newQuickGate(b)})
			config.Addr = s.Addr().String()
			runLoad(b, config)
		})
		b.Run("mosquitto/"+name, func(b *testing.B) {
			config.Addr = mosquitto(b)
			runLoad(b, config)
		})
	}
}

func runLoad(b *testing.B, config mqttload.Config) {
	config.Total = b.N
	result, err := mqttload.Run(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	if result.Acked != b.N {
		b.Fatalf("%d of %d acknowledged", result.Acked, b.N)
	}
	b.ReportMetric(result.Rate(), "acks/s")
	b.ReportMetric(float64(result.P99.Microseconds())/1000, "p99-ms")
}

// mosquitto starts Debian's broker and answers its address.
func mosquitto(t testing.TB) string {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // not in everybody's PATH
	}
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	conf := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nlog_dest none\nmax_inflight_messages 0\n", port)
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	broker := exec.Command(program, "-c", file)
	if err := broker.Start(); err != nil {
		t.Fatalf("mosquitto: %v: install Debian's mosquitto", err)
	}
	t.Cleanup(func() {
		_ = broker.Process.Kill()
		_ = broker.Wait()
	})
	for deadline := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("mosquitto does not answer: %v", err)
		}
	}
}

func freeAddr(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
