package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// timescaleVariable names a real TimescaleDB to test against, as the URL of a
// database whose user may create others.
const timescaleVariable = "MILLRACE_TEST_TIMESCALE"

// Timescale is the URL of a database with the extension timescaledb, made for
// this test.
//
// Usually that is PGlite, PostgreSQL in WebAssembly, and it is not all of a
// TimescaleDB: one connection at a time (others wait for it to close), no
// background jobs, no COPY of tens of thousands of rows, and what a connection
// sets in its session stays for the next. The URL asks pgx to name no
// statements, for that reason. Where MILLRACE_TEST_TIMESCALE names a real
// server, the database is made there; [RealTimescale] tells.
func Timescale(t testing.TB) string {
	t.Helper()
	make := pgliteDatabase
	if RealTimescale() {
		make = timescaleDatabase
	}
	database, err := make(t)
	if err != nil {
		t.Fatal(err)
	}
	return database
}

// RealTimescale tells whether [Timescale] is a whole server and not PGlite.
func RealTimescale() bool { return os.Getenv(timescaleVariable) != "" }

func pgliteDatabase(t testing.TB) (string, error) {
	folder := filepath.Join(Root(t), "internal", "testkit", "pglite")
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "@unni-craftsman", "pglite")); err != nil {
		return "", errors.New("PGlite with TimescaleDB is not installed: run 'make deps'")
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	log := filepath.Join(t.TempDir(), "pglite.log")
	p, err := start("pglite", exec.Command("node", filepath.Join(folder, "server.mjs"), strconv.Itoa(port)), log, syscall.SIGKILL)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := p.stop(syscall.SIGKILL); err != nil {
			t.Errorf("end PGlite: %v", err)
		}
	})
	err = p.ready(func() bool { return strings.Contains(tail(log), "ready\n") })
	return "postgres://postgres:postgres@" + Loopback(port) +
		"/postgres?sslmode=disable&default_query_exec_mode=cache_describe", err
}

func timescaleDatabase(t testing.TB) (string, error) {
	server := os.Getenv(timescaleVariable)
	u, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("%s is not a URL: %w", timescaleVariable, err)
	}
	name := pgx.Identifier{"millrace-" + Name(t)}.Sanitize()
	if err := execOn(t.Context(), server, "CREATE DATABASE "+name); err != nil {
		return "", fmt.Errorf("make a database on the server of %s: %w", timescaleVariable, err)
	}
	t.Cleanup(func() {
		if err := execOn(context.Background(), server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	u.Path = "/" + strings.Trim(name, `"`)
	return u.String(), execOn(t.Context(), u.String(), "CREATE EXTENSION IF NOT EXISTS timescaledb")
}

// execOn runs one statement on a connection of its own.
func execOn(ctx context.Context, url, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}
