package storage_test

import (
	"testing"

	"millrace/internal/testkit"
	"millrace/storage"
)

// exercises hold for both layouts. fresh is a bundle with nothing in it.
var exercises = []struct {
	name string
	run  func(t *testing.T, fresh func(*testing.T) *bundle)
}{
	{"transcripts", exerciseTranscripts},
	{"anything said", exerciseAnything},
	{"fence", exerciseFence},
	{"poison", exercisePoison},
	{"dead topic", exerciseDeadTopic},
	{"history", exerciseHistory},
	{"latest", exerciseLatest},
	{"rollups", exerciseRollups},
	{"verify", exerciseVerify},
	{"query", exerciseQuery},
	{"tables", exerciseTables},
}

func TestPlain(t *testing.T) {
	for _, e := range exercises {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			e.run(t, plain)
		})
	}
}

// TestTimescale runs on one database, emptied between scenarios: PGlite takes
// seconds to start, and takes one connection at a time.
func TestTimescale(t *testing.T) {
	t.Parallel()
	url := testkit.Timescale(t)
	cfg := storage.Config{MaxConns: 1}
	sink := storage.SinkConfig{Path: storage.PathUnnest, Writers: 1, BatchRows: 500} // a larger message stalls PGlite's socket
	if testkit.RealTimescale() {
		cfg, sink = storage.Config{}, storage.SinkConfig{}
	}
	db, err := storage.Open(t.Context(), url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if err := storage.Migrate(t.Context(), db, storage.MigrateOptions{}, func(s string) { t.Log(s) }); err != nil {
		t.Fatal(err)
	}
	if db.Layout() != storage.LayoutTimescale {
		t.Fatalf("the layout chosen is %q", db.Layout())
	}
	fresh := func(t *testing.T) *bundle {
		b := &bundle{t: t, url: url, db: db, cfg: sink, next: map[int32]int64{}}
		b.exec(`truncate samples, series, devices, dead_letters, log_offsets`)
		return b
	}
	for _, e := range exercises {
		t.Run(e.name, func(t *testing.T) { e.run(t, fresh) })
	}
}
