package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/internal/testkit"
	"millrace/storage/embedded"
)

// config is a database of the test's own in a data folder as an ordinary user
// has it, or root in a home of mode 0700: t.TempDir is one.
func config(t *testing.T) embedded.Config {
	t.Helper()
	return embedded.Config{
		Listen: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "data", "postgres"), Elsewhere: reachable(t),
		Progress: func(s string) { t.Log(s) },
	}
}

// reachable is a folder that every user can reach.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "millrace-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, c embedded.Config) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

func closeServer(t *testing.T, s *embedded.Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// ask runs one query with one answer.
func ask[T any](t *testing.T, url, sql string) T {
	t.Helper()
	v, err := query[T](context.Background(), url, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func query[T any](ctx context.Context, url, sql string) (v T, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return v, err
	}
	err = conn.QueryRow(ctx, sql).Scan(&v)
	return v, errors.Join(err, conn.Close(ctx))
}

func TestKeepsItsDataOverARestart(t *testing.T) {
	c := config(t)
	s := start(t, c)
	if got := ask[string](t, s.URL(), "SELECT current_user || ' ' || current_database()"); got != "millrace millrace" {
		t.Errorf("logged in as %q", got)
	}
	execute(t, s.URL(), "CREATE TABLE kept AS SELECT 7 AS v")
	closeServer(t, s)
	closeServer(t, s) // again is fine
	began := time.Now()
	s = start(t, c)
	t.Logf("second start: %v", time.Since(began))
	if v := ask[int](t, s.URL(), "SELECT v FROM kept"); v != 7 {
		t.Errorf("v = %d", v)
	}
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(context.Background(), sql)
	if err := errors.Join(err, conn.Close(context.Background())); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestIsSafeBeforeItIsQuick(t *testing.T) {
	s := start(t, config(t))
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "jit": "off",
		"listen_addresses": "127.0.0.1", "password_encryption": "scram-sha-256",
		"is_superuser": "off", "server_encoding": "UTF8", "lc_collate": "C", "TimeZone": "UTC",
	} {
		sql := "SELECT current_setting('" + setting + "')"
		if setting == "lc_collate" { // no setting any more from version 16 on
			sql = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
		}
		if got := ask[string](t, s.URL(), sql); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	for _, bad := range []string{
		strings.Replace(s.URL(), "millrace:", "millrace:x", 1), strings.Replace(s.URL(), "millrace:", "postgres:", 1),
	} {
		if _, err := query[int](t.Context(), bad, "SELECT 1"); err == nil {
			t.Errorf("%s was let in", bad)
		}
	}
}

func TestPasswordIsMadeOnceAndReplacedWhenLost(t *testing.T) {
	c := config(t)
	s := start(t, c)
	first := s.URL()
	info, err := os.Stat(c.Dir + ".password")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", info, err)
	}
	closeServer(t, s)
	if err := os.Remove(c.Dir + ".password"); err != nil {
		t.Fatal(err)
	}
	s = start(t, c)
	if s.URL() == first {
		t.Error("the lost password is still in use")
	}
	ask[int](t, s.URL(), "SELECT 1")
}

func TestFindTellsARunningServer(t *testing.T) {
	c := config(t)
	s := start(t, c)
	if url, err := embedded.Find(c.Dir); err != nil || url != s.URL() {
		t.Errorf("found %s, %v; want %s", url, err, s.URL())
	}
	closeServer(t, s)
	if _, err := embedded.Find(c.Dir); err == nil || !strings.Contains(err.Error(), "millrace up") {
		t.Errorf("found one that is closed: %v", err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	c := config(t)
	start(t, c)
	_, err := embedded.Start(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("another process (%d) uses the database", os.Getpid())) {
		t.Errorf("got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for want, change := range map[string]func(*embedded.Config){
		"--postgres-listen":                     func(c *embedded.Config) { c.Listen = taken.Addr().String() },
		"not a loopback address":                func(c *embedded.Config) { c.Listen = "0.0.0.0:5433" },
		"is not host:port":                      func(c *embedded.Config) { c.Listen = "5433" },
		"no port":                               func(c *embedded.Config) { c.Listen = "127.0.0.1:postgres" },
		"--postgres-binaries /nowhere":          func(c *embedded.Config) { c.Binaries = "/nowhere" },
		"--postgres-user no-such":               func(c *embedded.Config) { c.User = "no-such" },
		"made by PostgreSQL 9, which this":      func(c *embedded.Config) { pretend(t, c.Dir, "9.6\n") },
		"does not tell a version of PostgreSQL": func(c *embedded.Config) { pretend(t, c.Dir, "x\n") },
		"holds no password":                     func(c *embedded.Config) { write(t, c.Dir+".password", "\n") },
		"does not name a folder":                func(c *embedded.Config) { write(t, c.Dir+".place", "postgres") },
		"is gone from where":                    func(c *embedded.Config) { write(t, c.Dir+".place", "/nowhere/postgres") },
	} {
		t.Run(want, func(t *testing.T) {
			c := config(t)
			if os.Getuid() == 0 { // a folder that the server's user reaches
				c.Dir = filepath.Join(reachable(t), "data", "postgres")
			}
			change(&c)
			s, err := embedded.Start(t.Context(), c)
			if err == nil {
				closeServer(t, s)
			}
			if want == "--postgres-user no-such" && os.Getuid() == 0 {
				want = "no user no-such on this machine"
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func pretend(t *testing.T, dir, version string) {
	t.Helper()
	write(t, filepath.Join(dir, "PG_VERSION"), version)
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestIsStartedAgainAfterACrash(t *testing.T) {
	c := config(t)
	down, up := make(chan error, 1), make(chan struct{}, 2)
	c.Events.Down = func(err error) { down <- err }
	c.Events.Up = func(time.Duration) { up <- struct{}{} }
	s := start(t, c)
	<-up
	execute(t, s.URL(), "CREATE TABLE kept AS SELECT 7 AS v")
	if err := syscall.Kill(master(t, s.Folder()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-down; err == nil {
		t.Error("a crash without an error")
	}
	<-up
	if v := ask[int](t, s.URL(), "SELECT v FROM kept"); v != 7 {
		t.Errorf("v = %d", v)
	}
}

// master is the number of the server's process.
func master(t *testing.T, folder string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestRunClosesWhenTold(t *testing.T) {
	s := start(t, config(t))
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan error, 1)
	go func() { returned <- s.Run(ctx) }()
	cancel()
	if err := <-returned; err != nil {
		t.Error(err)
	}
	if _, err := query[int](t.Context(), s.URL(), "SELECT 1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Run: %v", err)
	}
}

func TestCloseCutsConnections(t *testing.T) {
	s := start(t, config(t))
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	busy := make(chan error, 1)
	go func() { _, err := conn.Exec(context.Background(), "SELECT pg_sleep(60)"); busy <- err }()
	testkit.Wait(t, "the query to run", func() bool {
		return ask[int](t, s.URL(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") == 1
	})
	began := time.Now()
	closeServer(t, s)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
	if err := <-busy; err == nil {
		t.Error("the query came to its end")
	}
}
