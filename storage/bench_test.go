package storage_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"millrace/internal/testkit"
	"millrace/storage"
	"millrace/telemetry"
)

// What the benchmarks write: devices that say four metrics a second.
const (
	benchDevices = 100
	benchSeconds = 3600
	benchMetrics = 4
	benchValues  = benchDevices * benchSeconds * benchMetrics
)

// benchRecords is the log of benchSeconds, as a consumer hands it over: batches
// of ten thousand records, in partition runs.
func benchRecords() [][]telemetry.Record {
	const partitions, batch = 8, 10_000
	var byPartition [partitions][]telemetry.Record
	r := telemetry.Reading{Metrics: make([]telemetry.Metric, benchMetrics)}
	for s := range benchSeconds {
		for d := range benchDevices {
			r.Device, r.Time = fmt.Sprintf("truck-%d", d), midnight.Add(time.Duration(s)*time.Second+time.Duration(d)*time.Millisecond)
			for m, name := range []string{"lat", "lon", "odometer", "speed"} {
				r.Metrics[m] = telemetry.Metric{Name: name, Value: telemetry.Number(math.Round(1e5*(float64(s*m)/7+float64(d))) / 1e5)}
			}
			p := d % partitions
			byPartition[p] = append(byPartition[p], telemetry.Record{
				Position: telemetry.Position{Partition: int32(p), Offset: int64(len(byPartition[p]))},
				Entry:    telemetry.Entry{Device: r.Device, Value: r.AppendJSON(nil), Received: r.Time},
			})
		}
	}
	var batches [][]telemetry.Record
	for from := 0; from < len(byPartition[0]); from += batch / partitions {
		var b []telemetry.Record
		for p := range byPartition {
			some := byPartition[p]
			b = append(b, some[min(from, len(some)):min(from+batch/partitions, len(some))]...)
		}
		batches = append(batches, b)
	}
	return batches
}

// BenchmarkSink is values a second from records of the log to committed rows, on
// the layout plain, and its ratio to a bare binary COPY of the same rows into a
// table without an index, made ready beforehand, in the same run; then the same
// with the time to build the index that the sink leaves to be built later.
func BenchmarkSink(b *testing.B) {
	url := testkit.Postgres(b)
	db, err := storage.Open(b.Context(), url, storage.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := storage.Migrate(b.Context(), db, storage.MigrateOptions{Layout: storage.LayoutPlain}, nil); err != nil {
		b.Fatal(err)
	}
	batches := benchRecords()
	var bare, sink, index time.Duration
	for b.Loop() {
		bare += bareCopy(b, db, batches)
		sink += sinkAll(b, db, batches)
		index += indexAll(b, db)
	}
	b.ReportMetric(benchValues*float64(b.N)/sink.Seconds(), "values/s")
	b.ReportMetric(benchValues*float64(b.N)/bare.Seconds(), "bare-values/s")
	b.ReportMetric(bare.Seconds()/sink.Seconds(), "ratio")
	b.ReportMetric(bare.Seconds()/(sink+index).Seconds(), "ratio-with-index")
}

func sinkAll(b *testing.B, db *storage.DB, batches [][]telemetry.Record) time.Duration {
	ctx := context.Background()
	for _, sql := range []string{`drop table if exists samples_20261121`, `truncate series, devices, log_offsets, rollup_dirty`} {
		if _, err := storage.Pool(db).Exec(ctx, sql); err != nil {
			b.Fatal(err)
		}
	}
	s, err := storage.NewSink(db, storage.SinkConfig{})
	if err != nil {
		b.Fatal(err)
	}
	h := s.Readings()
	if _, err := h.Claim(ctx, logID, []int32{0, 1, 2, 3, 4, 5, 6, 7}); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	for _, records := range batches {
		if err := h.Handle(ctx, records); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

// indexAll is what the sink has left for later.
func indexAll(b *testing.B, db *storage.DB) time.Duration {
	start := time.Now()
	if err := storage.IndexAll(b.Context(), db); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// bareCopy sends what is ready, a transaction a batch, as the sink does.
func bareCopy(b *testing.B, db *storage.DB, batches [][]telemetry.Record) time.Duration {
	ctx := context.Background()
	conn, err := storage.Pool(db).Acquire(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `drop table if exists bare`); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `create table bare ("time" timestamptz not null, series_id int not null, value float8, text text)`); err != nil {
		b.Fatal(err)
	}
	ready := make([][]byte, len(batches))
	for i := range batches {
		ready[i] = encodeBare(b, batches[i])
	}
	start := time.Now()
	for _, encoded := range ready {
		_, err := conn.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(encoded), `copy bare from stdin (format binary)`)
		if err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

func encodeBare(b *testing.B, records []telemetry.Record) []byte {
	dst := []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	var r telemetry.Reading
	for i := range records {
		if err := telemetry.ParseReading(records[i].Value, &r); err != nil {
			b.Fatal(err)
		}
		for m := range r.Metrics {
			dst = append(dst, 0, 4, 0, 0, 0, 8)
			dst = binary.BigEndian.AppendUint64(dst, uint64(r.Time.UnixMicro()-946_684_800_000_000))
			dst = append(dst, 0, 0, 0, 4, 0, 0, 0, byte(m), 0, 0, 0, 8)
			dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(r.Metrics[m].Value.Number()))
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
		}
	}
	return append(dst, 0xff, 0xff)
}
