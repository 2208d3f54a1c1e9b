package storage_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"millrace/internal/testkit"
	"millrace/storage"
	"millrace/telemetry"
)

// TestOpenRefused: the error names the server and the flag, and no password.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	for url, wants := range map[string]string{
		"postgres://millrace:secret@" + addr + "/millrace":    "postgres " + addr + ": cannot connect",
		"postgres://millrace:secret@" + addr + "/x?sslmode=9": "the URL is not one",
		"postgres://millrace:sec%ret@host":                    "the URL is not one",
	} {
		_, err := storage.Open(t.Context(), url, storage.Config{})
		if err == nil || !strings.Contains(err.Error(), wants) || !strings.Contains(err.Error(), "(--postgres)") || strings.Contains(err.Error(), "sec") {
			t.Errorf("%s: %v", url, err)
		}
	}
	_, err = storage.Open(t.Context(), "postgres://millrace@"+addr+"/millrace", storage.Config{})
	if !errors.Is(err, telemetry.ErrUnavailable) {
		t.Errorf("%v is not ErrUnavailable", err)
	}
}

// TestMigrateTwice: the second finds nothing to do; another layout, and a
// database nobody migrated, are told.
func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	db, err := storage.Open(t.Context(), testkit.Postgres(t), storage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := storage.NewSink(db, storage.SinkConfig{}); err == nil || !strings.Contains(err.Error(), "millrace migrate") {
		t.Errorf("a sink without tables: %v", err)
	}
	var steps []string
	progress := func(step string) { steps = append(steps, step) }
	if err := storage.Migrate(t.Context(), db, storage.MigrateOptions{}, progress); err != nil {
		t.Fatal(err)
	}
	if db.Layout() != storage.LayoutPlain || !strings.HasPrefix(steps[0], "layout plain: ") || len(steps) != 5 {
		t.Errorf("%s, %q", db.Layout(), steps)
	}
	steps = nil
	if err := storage.Migrate(t.Context(), db, storage.MigrateOptions{}, progress); err != nil || len(steps) != 0 {
		t.Errorf("%v, %q", err, steps)
	}
	err = storage.Migrate(t.Context(), db, storage.MigrateOptions{Layout: storage.LayoutTimescale}, nil)
	if err == nil || !strings.Contains(err.Error(), "has layout plain") {
		t.Error(err)
	}
	if _, err := storage.Pool(db).Exec(t.Context(), `update schema_version set version = 99`); err != nil {
		t.Fatal(err)
	}
	err = storage.Migrate(t.Context(), db, storage.MigrateOptions{}, nil)
	if err == nil || !strings.Contains(err.Error(), "newer millrace") {
		t.Error(err)
	}
}
