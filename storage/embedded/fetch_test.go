package embedded

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fetching is a server that has not looked for binaries yet.
func fetching(t *testing.T, mirror string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "millrace-fetch-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := prepare(Config{
		Listen: "127.0.0.1:0", Dir: filepath.Join(dir, "data", "postgres"), Elsewhere: filepath.Join(dir, "cache"), Mirror: mirror,
		Progress: func(s string) { t.Log(s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.unlock)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	return s
}

func TestFetchedBinariesRun(t *testing.T) {
	s := fetching(t, "")
	got, err := s.fetch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.major != newestFetchable {
		t.Errorf("fetched version %d, want %d", got.major, newestFetchable)
	}
	s.unlock()
	config := s.config
	config.Binaries = got.bin
	server, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	s.config.Mirror = "http://127.0.0.1:1" // the second time needs no network
	if again, err := s.fetch(t.Context(), 0); err != nil || again != got {
		t.Errorf("the second time: %v, %v", again, err)
	}
	left, err := filepath.Glob(filepath.Join(s.cache(), "fetch-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFetchFailsWithTheRemedy(t *testing.T) {
	nothing := httptest.NewServer(http.NotFoundHandler())
	defer nothing.Close()
	_, err := fetching(t, nothing.URL).fetch(t.Context(), 17)
	if err == nil || !strings.Contains(err.Error(), "--postgres-binaries") || !strings.Contains(err.Error(), "17.5.0") {
		t.Errorf("got %v", err)
	}
}

// Whoever ends the start while it looks for binaries has not said that there are none.
func TestACancelledStartFetchesNothing(t *testing.T) {
	mirror := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) }))
	defer mirror.Close()
	s := fetching(t, mirror.URL)
	s.unlock()
	config := s.config
	config.Progress = func(what string) { t.Errorf("it goes on: %s", what) }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, config); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "no PostgreSQL") {
		t.Errorf("Start ends with %v", err)
	}
	if _, err := s.fetch(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("fetch ends with %v", err)
	}
	if left, err := os.ReadDir(s.cache()); err == nil && len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAKilledInspectionTellsWhy(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := inspect(ctx, bin); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestOldFetchesAreSwept(t *testing.T) {
	s := fetching(t, "")
	old := time.Now().Add(-2 * time.Hour)
	for name, age := range map[string]time.Time{
		"fetch-1": old, "fetch-22": time.Now(), "fetch-results": old, "postgresql-17": old,
	} {
		folder := filepath.Join(s.cache(), name)
		if err := errors.Join(os.MkdirAll(filepath.Join(folder, "archive"), 0o755), os.Chtimes(folder, age, age)); err != nil {
			t.Fatal(err)
		}
	}
	s.unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the rest of the start does not matter
	_, _ = Start(ctx, s.config)
	left, err := filepath.Glob(filepath.Join(s.cache(), "*-*"))
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if want := []string{"fetch-22", "fetch-results", "postgresql-17"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %q, %v; want %q", left, err, want)
	}
}

func TestBinariesOfAnotherVersionAreRefused(t *testing.T) {
	s := fetching(t, "")
	found := binaryFolders()
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: run 'make deps'")
	}
	s.config.Binaries = found[0]
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "PG_VERSION"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.findInstall(t.Context())
	if err == nil || !strings.Contains(err.Error(), "was made by PostgreSQL 99") || !strings.Contains(err.Error(), "pg_upgrade") {
		t.Errorf("got %v", err)
	}
}
