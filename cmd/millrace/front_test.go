package main_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/internal/testkit"
)

// TestFront: what the HTTP front answers before any route is asked, and that
// a data folder belongs to one process.
func TestFront(t *testing.T) {
	d := newDeployment(t)
	ask := func(method, target, host string) (*http.Response, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.http+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, string(body)
	}
	f := func(method, target, host string, status int, says string) {
		t.Helper()
		response, body := ask(method, target, host)
		if response.StatusCode != status || !strings.Contains(body, says) {
			t.Errorf("%s %s: %d, want %d and %q\n%.500s", method, target, response.StatusCode, status, says, body)
		}
	}
	for _, path := range []string{"/v1/readings", "/v1/latest", "/v1/stream", "/v1/devices"} {
		f("GET", path+"?device=a;b", "", 422, "separate parameters by &")
		f("GET", path+"?device=%zz", "", 422, "query")
	}
	f("GET", "/v1/latest?where=speed", "", 422, "speed>80") // as people write it
	f("GET", "/v1/nothing", "", 404, "GET /v1 lists")
	f("PUT", "/v1/telemetry", "", 405, "takes POST")
	f("POST", "/v1/stream", "", 405, "takes GET")
	if response, _ := ask("DELETE", "/v1/telemetry", ""); response.Header.Get("Allow") != "POST" {
		t.Errorf("Allow is %q, want POST", response.Header.Get("Allow"))
	}
	f("GET", "/v1/status", "evil.example", 403, "localhost")
	f("GET", "/", "evil.example:8080", 403, "localhost")
	f("GET", "/v1/status", "localhost:1", 200, "version")
	f("GET", "/v1/status", "[::1]", 200, "version")

	out, code := execute(t, "up", "--data", d.data)
	if code != 1 || !strings.Contains(out, "millrace already runs with "+d.data) || !strings.Contains(out, d.http) {
		t.Errorf("a second up on the same data: exit code %d\n%s", code, out)
	}
}

func TestUpChecksWhatItIsTold(t *testing.T) {
	out, code := execute(t, "up", "--check", "--mqtt", "127.0.0.1:99999", "--http", "127.0.0.1:9092",
		"--sink-batch", "0", "--kafka-linger", "1h", "--kafka-prefix", "bad/prefix")
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	for _, want := range []string{"--mqtt", "--kafka-listen: 127.0.0.1:9092 is --http's already", "--sink-batch", "--kafka-linger", "--kafka-prefix"} {
		if !strings.Contains(out, want) {
			t.Errorf("--check does not say %q:\n%s", want, out)
		}
	}
}

// TestInterruptedStart: Ctrl-C before everything is up is a calm end, too.
func TestInterruptedStart(t *testing.T) {
	dir := reachable(t)
	args := []string{"up", "--data", filepath.Join(dir, "data")}
	for _, flag := range []string{"--mqtt", "--http", "--kafka-listen", "--postgres-listen"} {
		args = append(args, flag, testkit.Loopback(testkit.FreePort(t)))
	}
	p := testkit.Run(t, nil, args...)
	testkit.Wait(t, "the data folder", func() bool {
		_, err := os.Stat(filepath.Join(dir, "data", "up.lock"))
		return err == nil
	})
	p.Interrupt()
	if code := p.Wait(); code != 0 || strings.Contains(p.Output(), "fetching") {
		t.Errorf("exit code %d\n%s", code, p.Output())
	}
}

func TestBrokenRowsEndInAnError(t *testing.T) {
	broker := testkit.Mosquitto(t)
	file := filepath.Join(t.TempDir(), "broken.csv")
	if err := os.WriteFile(file, []byte("id,at,speed\na,2026-01-01T00:00:00Z,1\nb,yesterday,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := execute(t, "simulate", "--mqtt", broker.Addr(), "--csv", file, "--device", "id", "--time", "at", "--time-layout", "rfc3339")
	if code != 1 || !strings.Contains(out, "1 of 2 rows of "+file+" could not be played") || !strings.Contains(out, "line 3") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestReplayToAFullDiskFails(t *testing.T) {
	d := newDeployment(t, "--fleet", "20")
	testkit.Wait(t, "readings in the database", func() bool { return d.count("select count(*) from telemetry") > 100 })
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var said bytes.Buffer
	replay := exec.CommandContext(t.Context(), testkit.Binary(t), "replay", "--data", d.data, "--from=-1h", "--to="+time.Now().UTC().Format(time.RFC3339Nano))
	replay.Stdout, replay.Stderr = full, &said
	if err := replay.Run(); err == nil || !strings.Contains(said.String(), "cannot write") {
		t.Errorf("ended with %v\n%s", err, said.String())
	}
}
