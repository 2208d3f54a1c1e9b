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
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is the URL of a database made for this test, empty, on a real
// PostgreSQL of this machine. Its user "millrace" is a superuser without a
// password. One server serves all tests of the process, without fsync; the
// database is dropped when the test ends, with whoever is connected to it.
func Postgres(t testing.TB) string {
	t.Helper()
	return PostgresFrom(t, "template1", nil)
}

// PostgresFrom is like [Postgres], but the database is a copy of a template of
// the given name (lower case letters, digits, '_'), which the first test that
// names it fills: with a migrated schema, say. fill must have closed its
// connections when it returns. A copy takes some tens of milliseconds.
func PostgresFrom(t testing.TB, template string, fill func(ctx context.Context, url string) error) string {
	t.Helper()
	server, err := shared.primary.get(startPostgres)
	if err != nil {
		t.Fatal(err)
	}
	name, err := server.create(t.Context(), template, fill)
	if err != nil {
		t.Fatalf("database for %s: %v", t.Name(), err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := server.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return server.url(name)
}

// postgres is a running server.
type postgres struct {
	port      int
	databases atomic.Int64

	mu        sync.Mutex      // protects templates, and lets one template be filled at a time
	templates map[string]bool // made already
}

func startPostgres() (*postgres, error) {
	bin, err := postgresBinaries()
	if err != nil {
		return nil, err
	}
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	shared.onStop(func() { _ = os.RemoveAll(dir) })
	if err := initPostgres(bin, dir); err != nil {
		return nil, err
	}
	for range 2 { // a port that was free may be taken a moment later
		var server *postgres
		if server, err = runPostgres(bin, dir); err == nil {
			return server, nil
		}
	}
	return nil, err
}

// postgresBinaries is the folder of the newest PostgreSQL that the machine has.
func postgresBinaries() (string, error) {
	newest, folder := 0, ""
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		panic("impossible, because the pattern is a constant: " + err.Error())
	}
	for _, name := range dirs {
		bin := filepath.Dir(name)
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		if err == nil && version > newest {
			newest, folder = version, bin
		}
	}
	if folder != "" {
		return folder, nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errors.New("PostgreSQL is not installed: run 'make deps'")
}

func initPostgres(bin, dir string) error {
	as, err := serverUser()
	if err != nil {
		return err
	}
	if err := give(dir, as); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(dir, "data"),
		"--username", "millrace", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.Dir, cmd.Env = dir, []string{"LC_ALL=C", "PATH=" + bin}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func runPostgres(bin, dir string) (*postgres, error) {
	as, err := serverUser()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server := &postgres{port: port, templates: map[string]bool{"template1": true}}
	args := []string{"-D", filepath.Join(dir, "data")}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port), "unix_socket_directories=",
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "jit=off",
		"max_connections=200", "shared_buffers=64MB", "max_wal_size=2GB", "max_prepared_transactions=10",
		"timezone=UTC", "log_min_messages=warning",
	} {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), args...)
	cmd.Dir, cmd.Env = dir, []string{"LC_ALL=C", "PATH=" + bin}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	p, err := start("postgres", cmd, filepath.Join(dir, "postgres.log"), syscall.SIGQUIT)
	if err != nil {
		return nil, err
	}
	shared.onStop(func() { _ = p.stop(syscall.SIGQUIT) })
	return server, p.ready(func() bool { return server.exec(context.Background(), "SELECT 1") == nil })
}

func (s *postgres) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User("millrace"), Host: Loopback(s.port), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// create makes a database from a template, which it makes too if need be.
func (s *postgres) create(ctx context.Context, template string, fill func(context.Context, string) error) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.templates[template] {
		if err := s.fill(ctx, template, fill); err != nil {
			return "", fmt.Errorf("template %s: %w", template, err)
		}
		s.templates[template] = true
	}
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	return name, s.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+pgx.Identifier{template}.Sanitize()+" STRATEGY file_copy")
}

func (s *postgres) fill(ctx context.Context, template string, fill func(context.Context, string) error) error {
	name := pgx.Identifier{template}.Sanitize()
	if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+name); err != nil { // of a fill that failed
		return err
	}
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	return fill(ctx, s.url(template))
}

func (s *postgres) exec(ctx context.Context, sql string) error {
	return execOn(ctx, s.url("postgres"), sql)
}
