package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"millrace/internal/mqttload"
	"millrace/internal/testkit"
	"millrace/stream"
	"millrace/stream/embedded"
	"millrace/telemetry"
)

// BenchmarkIngest: QoS 1 acknowledged a second by millrace ingest in front of
// the embedded log and of real Kafka, beside mosquitto, which keeps nothing.
func BenchmarkIngest(b *testing.B) {
	mosquitto := testkit.Mosquitto(b, "persistence false", "max_queued_messages 0", "max_inflight_messages 0").Addr()
	log := embeddedLog(b)
	kafka := testkit.Kafka(b)
	onLog, onKafka := door(b, log), door(b, kafka)
	for _, load := range []struct{ connections, inFlight int }{{100, 64}, {1000, 8}, {1000, 1}} {
		b.Run(fmt.Sprintf("%dx%d", load.connections, load.inFlight), func(b *testing.B) {
			var peer, ours, real []float64
			before := appended(b, log) + appended(b, kafka)
			acknowledged := 0
			for range rounds {
				peer = append(peer, publish(b, mosquitto, load.connections, load.inFlight).Rate())
				for _, target := range []struct {
					addr string
					to   *[]float64
				}{{onLog, &ours}, {onKafka, &real}} {
					result := publish(b, target.addr, load.connections, load.inFlight)
					*target.to = append(*target.to, result.Rate())
					acknowledged += result.Acked
				}
			}
			if kept := appended(b, log) + appended(b, kafka) - before; kept < int64(acknowledged) {
				b.Fatalf("%d messages were acknowledged, %d are in the logs", acknowledged, kept)
			}
			shape := fmt.Sprintf("%d connections × %d", load.connections, load.inFlight)
			report(b, shape, median(peer), median(ours), median(real))
		})
	}
}

func report(b *testing.B, shape string, peer, ours, real float64) {
	b.ReportMetric(ours/peer, "log/mosquitto")
	b.ReportMetric(real/peer, "kafka/mosquitto")
	what, want := "QoS 1 acknowledged/s, "+shape, "-"
	if shape == "100 connections × 64" {
		want = "1.0 on the embedded log"
	}
	results.add(row{what + ", embedded log", thousands(ours), fmt.Sprintf("mosquitto %s: ratio %.2f", thousands(peer), ours/peer), want})
	results.add(row{what + ", Kafka acks=all", thousands(real), fmt.Sprintf("mosquitto %s: ratio %.2f", thousands(peer), real/peer), "-"})
}

func publish(b *testing.B, addr string, connections, inFlight int) mqttload.Result {
	b.Helper()
	result, err := mqttload.Run(b.Context(), mqttload.Config{
		Addr: addr, Connections: connections, InFlight: inFlight, QoS: 1, Duration: 4 * time.Second,
	})
	if err != nil {
		b.Fatalf("%s: %v", addr, err)
	}
	return result
}

// embeddedLog runs the embedded log in this process, as 'millrace up' does.
func embeddedLog(b *testing.B) string {
	b.Helper()
	broker, err := embedded.Start(b.Context(), embedded.Config{Addr: testkit.Loopback(testkit.FreePort(b)), Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(broker.Close)
	return broker.Addr()
}

// door runs millrace ingest in front of a log and answers its MQTT address.
func door(b *testing.B, kafka string) string {
	b.Helper()
	addr := testkit.Loopback(testkit.FreePort(b))
	p := testkit.Run(b, nil, "ingest", "--kafka", kafka, "--mqtt", addr, "--http", testkit.Loopback(testkit.FreePort(b)), "--data", b.TempDir())
	p.Says("serving")
	return addr
}

// appended is how many readings a log holds, those that retention removed included.
func appended(b *testing.B, kafka string) int64 {
	b.Helper()
	_, next := bounds(b, kafka)
	var n int64
	for _, offset := range next.Next {
		n += offset
	}
	return n
}

func bounds(b *testing.B, kafka string) (first, next telemetry.Cursor) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	log, err := stream.Open(ctx, stream.Config{Brokers: []string{kafka}})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	first, next, err = log.Readings().Bounds(ctx)
	if err != nil {
		b.Fatal(err)
	}
	return first, next
}
