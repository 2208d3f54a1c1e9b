package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/internal/testkit"
	"millrace/stream"
	"millrace/telemetry"
)

const (
	fillReadings = 600_000
	fillDevices  = 1_000
	fillMetrics  = 4
)

// BenchmarkSink: values a second from the log into the database, layout plain,
// beside a bare binary COPY of the same rows into a table without an index.
func BenchmarkSink(b *testing.B) {
	log := embeddedLog(b)
	fill(b, log)
	var peer, ours []float64
	for range rounds {
		url := testkit.Postgres(b)
		ours = append(ours, store(b, log, url))
		peer = append(peer, bareCopy(b, url))
	}
	ratio := median(ours) / median(peer)
	b.ReportMetric(ratio, "sink/copy")
	results.add(row{
		"values/s from the log into PostgreSQL, layout plain", thousands(median(ours)),
		fmt.Sprintf("bare COPY %s: ratio %.2f", thousands(median(peer)), ratio), "0.40",
	})
}

// fill appends readings of a fleet to the log.
func fill(b *testing.B, kafka string) {
	b.Helper()
	log, err := stream.Open(b.Context(), stream.Config{Brokers: []string{kafka}})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	producer, err := stream.NewProducer(log, stream.ProducerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	var failed atomic.Int64
	random := rand.New(rand.NewPCG(1, 2))
	began := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i := range fillReadings {
		r := telemetry.Reading{
			Device:  fmt.Sprintf("truck-%d", i%fillDevices),
			Time:    began.Add(time.Duration(i) * time.Millisecond),
			Metrics: make([]telemetry.Metric, 0, fillMetrics),
		}
		for _, name := range [fillMetrics]string{"fuel", "lat", "lon", "speed"} {
			r.Metrics = append(r.Metrics, telemetry.Metric{Name: name, Value: telemetry.Number(random.Float64() * 100)})
		}
		producer.Append(b.Context(), telemetry.Entry{Device: r.Device, Value: r.AppendJSON(nil), Received: time.Now()},
			func(_ telemetry.Position, err error) {
				if err != nil {
					failed.Add(1)
				}
			})
	}
	if err := producer.Close(b.Context()); err != nil || failed.Load() > 0 {
		b.Fatalf("filling the log: %d appends failed, %v", failed.Load(), err)
	}
}

// store runs millrace sink until everything is in the database. It counts from
// the first commit on: before, the sink waits for its consumer group, which
// Kafka lets wait for company.
func store(b *testing.B, kafka, url string) float64 {
	b.Helper()
	migrate := testkit.Run(b, nil, "migrate", "--postgres", url, "--layout", "plain")
	if code := migrate.Wait(); code != 0 {
		b.Fatalf("millrace migrate: exit code %d\n%s", code, migrate.Output())
	}
	connection := connect(b, url)
	sink := testkit.Run(b, nil, "sink", "--kafka", kafka, "--postgres", url, "--http", testkit.Loopback(testkit.FreePort(b)), "--data", b.TempDir())
	sink.Says("serving")
	var began time.Time
	var first, stored int64
	testkit.Wait(b, "everything to be stored", func() bool {
		stored = ask(b, connection, "select coalesce(sum(records), 0)::bigint from log_offsets where topic = 'millrace.readings'")
		if first == 0 && stored > 0 {
			first, began = stored, time.Now()
		}
		return stored == fillReadings
	})
	took := time.Since(began)
	if n := ask(b, connection, "select count(*) from samples"); n != fillReadings*fillMetrics {
		b.Fatalf("%d values are stored, want %d", n, fillReadings*fillMetrics)
	}
	sink.Interrupt()
	return float64(fillReadings-first) * fillMetrics / took.Seconds()
}

// bareCopy copies the rows of samples in one COPY from memory into a table of
// the same columns.
func bareCopy(b *testing.B, url string) float64 {
	b.Helper()
	ctx := b.Context()
	connection := connect(b, url)
	if _, err := connection.Exec(ctx, `create table bare (time timestamptz not null, series_id int not null, value double precision, text text)`); err != nil {
		b.Fatal(err)
	}
	rows, err := connection.Query(ctx, "select time, series_id, value from samples")
	if err != nil {
		b.Fatal(err)
	}
	type sample struct {
		Time   time.Time
		Series int32
		Value  float64
	}
	samples, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sample])
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	n, err := connection.CopyFrom(ctx, pgx.Identifier{"bare"}, []string{"time", "series_id", "value", "text"},
		pgx.CopyFromSlice(len(samples), func(i int) ([]any, error) {
			return []any{samples[i].Time, samples[i].Series, samples[i].Value, nil}, nil
		}))
	if err != nil || n != int64(len(samples)) {
		b.Fatalf("COPY took %d of %d rows: %v", n, len(samples), err)
	}
	return float64(n) / time.Since(began).Seconds()
}

func connect(b *testing.B, url string) *pgx.Conn {
	b.Helper()
	connection, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = connection.Close(context.WithoutCancel(b.Context())) })
	return connection
}

func ask(b *testing.B, connection *pgx.Conn, query string) int64 {
	b.Helper()
	var n int64
	if err := connection.QueryRow(b.Context(), query).Scan(&n); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
	return n
}
