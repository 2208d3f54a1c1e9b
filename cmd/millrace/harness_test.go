package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// execute runs the program to its end and answers what it said and its exit code.
func execute(t *testing.T, args ...string) (string, int) {
	t.Helper()
	p := testkit.Run(t, nil, args...)
	code := p.Wait()
	return p.Output(), code
}

// must is execute of a command that has to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, code := execute(t, args...)
	if code != 0 {
		t.Fatalf("millrace %s: exit code %d", strings.Join(args, " "), code)
	}
	return out
}

// deployment is one 'millrace up' and where it listens. It can be killed and
// started again on the same data and ports.
type deployment struct {
	*testkit.Program
	t                           *testing.T
	data                        string
	mqtt, http, kafka, postgres string
	extra                       []string
}

func newDeployment(t *testing.T, extra ...string) *deployment {
	t.Helper()
	d := &deployment{t: t, data: filepath.Join(reachable(t), "data"), extra: extra}
	for _, address := range []*string{&d.mqtt, &d.http, &d.kafka, &d.postgres} {
		*address = testkit.Loopback(testkit.FreePort(t))
	}
	d.up()
	return d
}

// reachable is a folder that the user who runs PostgreSQL under root can reach,
// which t.TempDir is not.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "millrace-test-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// up starts the deployment, or starts it again.
func (d *deployment) up() {
	d.t.Helper()
	args := append([]string{
		"up", "--data", d.data, "--mqtt", d.mqtt, "--http", d.http,
		"--kafka-listen", d.kafka, "--postgres-listen", d.postgres,
	}, d.extra...)
	d.Program = testkit.Run(d.t, nil, args...)
	d.Says("Ctrl-C")
}

// get answers a JSON document.
func (d *deployment) get(path string, into any) {
	d.t.Helper()
	response, err := http.Get("http://" + d.http + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		d.t.Fatalf("GET %s: %s %v\n%.2000s", path, response.Status, err, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		d.t.Fatalf("GET %s: %v\n%.2000s", path, err, body)
	}
}

// url of the deployment's database, as the data folder tells it.
func (d *deployment) url() string {
	d.t.Helper()
	content, err := os.ReadFile(filepath.Join(d.data, "up.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	var found struct{ Postgres string }
	if err := json.Unmarshal(content, &found); err != nil {
		d.t.Fatal(err)
	}
	return found.Postgres
}

// count answers a query for one number.
func (d *deployment) count(query string, args ...any) int {
	d.t.Helper()
	return count(d.t, d.url(), query, args...)
}

func count(t *testing.T, url, query string, args ...any) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	connection, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close(ctx)
	var n int
	if err := connection.QueryRow(ctx, query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// settle waits until the query answers the number, which is what it must come to.
func (d *deployment) settle(want int, query string, args ...any) {
	d.t.Helper()
	testkit.Wait(d.t, fmt.Sprintf("%s to answer %d", query, want), func() bool {
		return d.count(query, args...) == want
	})
}

// statement runs one statement.
func statement(t *testing.T, url, sql string) {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close(t.Context())
	if _, err := connection.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
