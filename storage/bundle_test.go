package storage_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/internal/testkit"
	"millrace/storage"
	"millrace/telemetry"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// logID is the log that tests speak of; above 2^63, as half of all ids are.
const logID = 0xfedc_ba98_7654_3210

// bundle is a migrated database, and the readings topic of a made-up log.
type bundle struct {
	t    *testing.T
	url  string
	db   *storage.DB
	cfg  storage.SinkConfig
	next map[int32]int64 // offsets of the log
	said []telemetry.Record
}

// plain is a bundle on PostgreSQL, in a database of its own.
func plain(t *testing.T) *bundle {
	t.Helper()
	url := testkit.PostgresFrom(t, "storage", func(ctx context.Context, url string) error {
		db, err := storage.Open(ctx, url, storage.Config{})
		if err != nil {
			return err
		}
		defer db.Close()
		return storage.Migrate(ctx, db, storage.MigrateOptions{Layout: storage.LayoutPlain}, nil)
	})
	b := &bundle{t: t, url: url, next: map[int32]int64{}}
	b.db = b.open(storage.Config{})
	return b
}

// open connects once more; the connection is closed when the test ends.
func (b *bundle) open(cfg storage.Config) *storage.DB {
	b.t.Helper()
	db, err := storage.Open(b.t.Context(), b.url, cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(db.Close)
	return db
}

// sink is a new sink that has claimed the partitions.
func (b *bundle) sink(partitions ...int32) *storage.Handler {
	b.t.Helper()
	s, err := storage.NewSink(b.db, b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.claim(s.Readings(), partitions...)
	return s.Readings()
}

func (b *bundle) claim(h *storage.Handler, partitions ...int32) []int64 {
	b.t.Helper()
	offsets, err := h.Claim(b.t.Context(), logID, partitions)
	if err != nil {
		b.t.Fatal(err)
	}
	return offsets
}

// midnight is where the tests' times count from.
var midnight = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// say appends a reading to the log and answers its record: "truck-1 10 speed=1
// state="on" moving=true" is what truck-1 said ten seconds after midnight.
func (b *bundle) say(partition int32, line string) telemetry.Record {
	b.t.Helper()
	return b.append(partition, reading(b.t, line))
}

func reading(t *testing.T, line string) *telemetry.Reading {
	t.Helper()
	fields := strings.Fields(line)
	seconds, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	r := &telemetry.Reading{Device: fields[0], Time: midnight.Add(time.Duration(seconds * float64(time.Second)))}
	for _, field := range fields[2:] {
		name, text, _ := strings.Cut(field, "=")
		r.Metrics = append(r.Metrics, telemetry.Metric{Name: name, Value: parseValue(t, text)})
	}
	if err := r.Check(r.Time); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return r
}

func parseValue(t *testing.T, text string) telemetry.Value {
	t.Helper()
	switch {
	case text == "true" || text == "false":
		return telemetry.Bool(text == "true")
	case strings.HasPrefix(text, `"`):
		return telemetry.Text(strings.Trim(text, `"`))
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return telemetry.Number(f)
}

func (b *bundle) append(partition int32, r *telemetry.Reading) telemetry.Record {
	return b.raw(partition, telemetry.Entry{Device: r.Device, Value: r.AppendJSON(nil), Received: r.Time.Add(time.Second)})
}

func (b *bundle) raw(partition int32, e telemetry.Entry) telemetry.Record {
	record := telemetry.Record{Position: telemetry.Position{Partition: partition, Offset: b.next[partition]}, Entry: e}
	b.next[partition]++
	b.said = append(b.said, record)
	return record
}

// handle must succeed.
func (b *bundle) handle(h *storage.Handler, records ...telemetry.Record) {
	b.t.Helper()
	if err := h.Handle(b.t.Context(), records); err != nil {
		b.t.Fatal(err)
	}
}

// query is a query's rows, one a line, columns divided by spaces.
func (b *bundle) query(sql string, args ...any) string {
	b.t.Helper()
	var lines strings.Builder
	pool := storage.Pool(b.db)
	rows, _ := pool.Query(b.t.Context(), sql, args...)
	_, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		values, err := row.Values()
		for i, v := range values {
			if at, ok := v.(time.Time); ok {
				v = strconv.FormatFloat(at.Sub(midnight).Seconds(), 'f', -1, 64)
			}
			if i > 0 {
				lines.WriteByte(' ')
			}
			fmt.Fprint(&lines, v)
		}
		lines.WriteByte('\n')
		return struct{}{}, err
	})
	if err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return lines.String()
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := storage.Pool(b.db).Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

// stored is what the database holds of the readings topic, for a transcript.
func (b *bundle) stored() string {
	b.t.Helper()
	return "telemetry\n" +
		b.query(`select device, time, metric, coalesce(value::text, '-'), coalesce(text, '-') from telemetry order by device, time, metric, value`) +
		"dead\n" +
		b.query(`select "partition", "offset", reason, detail from dead_letters order by 1, 2`) +
		"offsets\n" +
		b.query(`select "partition", 'next', next_offset, 'records', records, 'stored', stored, 'duplicates', duplicates, 'dead', dead, 'missed', missed
			from log_offsets where topic like '%.readings' order by 1`)
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}
