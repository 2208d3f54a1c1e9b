package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// door is an HTTP door before a log in memory.
type door struct {
	http.Handler
	log *fakeLog
}

func newDoor(change ...func(*HTTPConfig)) *door {
	log := newFakeLog()
	config := HTTPConfig{Gate: NewGate(Config{Appender: log, Limits: Limits{ItemsPerMessage: 100}}), Auth: everybody{}}
	for _, c := range change {
		c(&config)
	}
	return &door{NewHandler(config), log}
}

// post sends a request; header is "Name: value" lines.
func (d *door) post(path, body string, header ...string) *httptest.ResponseRecorder {
	return d.postFrom(path, strings.NewReader(body), header...)
}

func (d *door) postFrom(path string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, body)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

type reply struct {
	Title    string
	Status   int
	Detail   string
	Accepted int
	Refused  []struct {
		Index  int
		Reason string
		Detail string
	}
	Omitted int
}

func read(t *testing.T, w *httptest.ResponseRecorder) (r reply) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	want := "application/json"
	if w.Code != http.StatusOK {
		want = "application/problem+json"
		if r.Status != w.Code || r.Title == "" || r.Detail == "" {
			t.Errorf("%d is not a problem: %s", w.Code, w.Body)
		}
	}
	if got := w.Header().Get("Content-Type"); got != want {
		t.Errorf("Content-Type %q of a %d", got, w.Code)
	}
	return r
}

func TestHTTPForms(t *testing.T) {
	f := func(path, contentType, body string, want ...string) {
		t.Helper()
		d := newDoor()
		var header []string
		if contentType != "" {
			header = []string{"Content-Type: " + contentType}
		}
		w := d.post(path, body, header...)
		got := d.log.readings()
		if r := read(t, w); w.Code != 200 || r.Accepted != len(want) || !slices.Equal(got, want) {
			t.Errorf("%s %s: %d %s\n%q", path, contentType, w.Code, w.Body, got)
		}
	}
	const a = `{"device":"a","time":"2025-11-21T22:00:00.000000Z","values":{"x":1}}`
	const b = `{"device":"b","time":"2025-11-21T22:00:00.000000Z","values":{"x":1}}`
	const many, one = "/v1/telemetry", "/v1/devices/a/telemetry"
	f(many, "", `{"device":"a","ts":1763762400,"x":1}`, a)
	f(many, "application/json; charset=utf-8", `[`+a+`,`+b+`]`, a, b)
	f(one, "application/json", `{"ts":1763762400,"x":1}`, a)
	f(one, "application/x-ndjson", "{\"ts\":1763762400,\"x\":1}\n", a)
	f(many, "application/x-ndjson", a+"\n"+b, a, b)
	f(many, "application/senml+json", `[{"bn":"a:","bt":1763762400,"n":"x","v":1}]`, a)
	f(many, "application/senml+cbor", "\x81\xa4\x21\x62a:\x22\x1a\x69\x20\xe0\xe0\x00\x61x\x02\x01", a)
	f(many, "text/plain", "x,device=a value=1 1763762400000000000\nx,device=b value=1 1763762400", a, b)
	f(many+"?precision=s", "text/plain", "x,device=a value=1 1763762400", a)
	f(many+"?form=line", "", "x,device=a value=1 1763762400", a)
	f(many, "", `[]`)
	f(many, "application/x-ndjson", "\n\n")
}

func TestHTTPRefusals(t *testing.T) {
	d := newDoor()
	w := d.post("/v1/devices/a/telemetry", "{\"x\":1}\nno\n{\"x\":2}\n{\"ts\":5,\"x\":3}\n{\"x\":4}", "Content-Type: application/x-ndjson")
	r := read(t, w)
	if w.Code != 200 || r.Accepted != 3 || len(r.Refused) != 2 || r.Refused[0].Index != 1 || r.Refused[0].Reason != "malformed" ||
		r.Refused[1].Index != 3 || r.Refused[1].Reason != "time" || r.Refused[1].Detail == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got, want := d.log.dead(), []string{"malformed no", `time {"ts":5,"x":3}`}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, e := range d.log.entries() {
		if e.Dead != nil && (e.Dead.Source != "http" || e.Dead.Topic != "/v1/devices/a/telemetry?form=ndjson" || e.Dead.Client == "") {
			t.Errorf("%+v", e.Dead)
		}
	}
}

// TestHTTPProblems is the table of what goes wrong: every answer is a problem
// that names the thing.
func TestHTTPProblems(t *testing.T) {
	strict := func(c *HTTPConfig) { c.Auth = logins{"secret": "a"} }
	small := func(c *HTTPConfig) {
		c.Limits = HTTPLimits{BodyBytes: 300, ExpandedBytes: 500, DocumentBytes: 200, LineBytes: 100}
	}
	f := func(d *door, path, body string, status int, detail string, header ...string) {
		t.Helper()
		w := d.post(path, body, header...)
		r := read(t, w)
		if w.Code != status || !strings.Contains(r.Detail, detail) || r.Accepted != 0 || len(d.log.readings()) != 0 {
			t.Errorf("%s %.60q: %d %s, want %d …%s…", path, body, w.Code, w.Body, status, detail)
		}
	}
	const one, many, good = "/v1/devices/a/telemetry", "/v1/telemetry", `{"x":1}`
	f(newDoor(), one, `{"x":`, 422, "1 refused; the first: the JSON ends in the middle")
	f(newDoor(), one, ``, 422, "the payload is empty")
	f(newDoor(), one, `[{"x":1},{"x"]`, 422, "not JSON")
	f(newDoor(), many, good, 422, "the device name is empty")
	f(newDoor(), "/v1/devices/a%20b/telemetry", good, 422, `has " "`)
	f(newDoor(), "/v1/devices/a%2Fb/telemetry", good, 422, `has "/"`)
	f(newDoor(), one, good, 415, "none of application/json, ", "Content-Type: application/xml")
	f(newDoor(), one, good, 415, "neither gzip nor zstd", "Content-Encoding: br")
	f(newDoor(), one+"?form=xml", good, 422, "form: \"xml\" is none of")
	f(newDoor(), one+"?form=value", good, 422, "is for MQTT")
	f(newDoor(), one+"?precision=h", good, 422, "precision: \"h\" is none of")
	f(newDoor(), one, good+good, 422, "cannot be read: gzip: invalid header", "Content-Encoding: gzip")
	f(newDoor(), one, good, 422, "cannot be read: ", "Content-Encoding: zstd")
	f(newDoor(), one, good, 403, "another site's page", "Sec-Fetch-Site: cross-site")
	f(newDoor(strict), one, good, 401, "unauthorized")
	f(newDoor(strict), one, good, 401, "unauthorized", "Authorization: Bearer wrong")
	f(newDoor(strict), one, good, 401, "send Authorization: Bearer TOKEN", "Authorization: Digest x")
	f(newDoor(strict), one, good, 401, "send Authorization: Bearer TOKEN", "Authorization: Basic ???")
	f(newDoor(strict), one, good, 503, "unavailable", "Authorization: Bearer away")
	f(newDoor(strict), "/v1/devices/b/telemetry", good, 403, "log in as that device", "Authorization: Bearer secret")
	f(newDoor(strict), many, `{"device":"b","x":1}`, 403, "may not publish", "Authorization: Bearer secret")
	f(newDoor(func(c *HTTPConfig) { c.Auth = nil }), one, good, 401, "unauthorized")
	f(newDoor(small), one, `{"x":"`+strings.Repeat("y", 200)+`"}`, 413, "a document is longer than 200 bytes")
	f(newDoor(small), one, `{"x":"`+strings.Repeat("y", 500)+`"}`, 413, "the body is longer than 300 bytes")
	f(newDoor(small), one, strings.Repeat("x", 150), 413, "a line is longer than 100 bytes", "Content-Type: application/x-ndjson")
	f(newDoor(small), one, zip(strings.Repeat(" ", 5000)), 413, "longer than 500 bytes when decompressed", "Content-Encoding: gzip")
	f(newDoor(small), one, zstandard(strings.Repeat(" ", 5000)), 413, "longer than 500 bytes when decompressed", "Content-Encoding: zstd")
	f(newDoor(func(c *HTTPConfig) { c.Limits.BufferedBytes = 1 }), one, good, 503, "bytes of bodies are in memory")
}

func zip(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

func zstandard(text string) string {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic("impossible, because the options are constant: " + err.Error())
	}
	return string(z.EncodeAll([]byte(text), nil))
}

func TestHTTPHeadersOfProblems(t *testing.T) {
	f := func(w *httptest.ResponseRecorder, header, want string) {
		t.Helper()
		if got := w.Header().Get(header); got != want {
			t.Errorf("%d: %s is %q, want %q", w.Code, header, got, want)
		}
	}
	strict := newDoor(func(c *HTTPConfig) { c.Auth = logins{} })
	f(strict.post("/v1/telemetry", "{}"), "WWW-Authenticate", `Bearer realm="millrace", Basic realm="millrace", charset="UTF-8"`)
	f(newDoor().post("/v1/telemetry", "{}", "Content-Encoding: br"), "Accept-Encoding", "gzip, zstd")
	over := newDoor()
	over.log.room = 0
	f(over.post("/v1/devices/a/telemetry", `{"x":1}`), "Retry-After", "1")
}

func TestHTTPLogin(t *testing.T) {
	f := func(authorization string) {
		t.Helper()
		d := newDoor(func(c *HTTPConfig) { c.Auth = logins{"secret": "a"} })
		if w := d.post("/v1/telemetry", `{"x":1}`, "Authorization: "+authorization); w.Code != 200 || d.log.entries()[0].Device != "a" {
			t.Errorf("%s: %d %s", authorization, w.Code, w.Body)
		}
	}
	f("Bearer secret")
	f("bearer secret")
	f("Basic YTpzZWNyZXQ=") // a:secret
}

func TestHTTPEncodings(t *testing.T) {
	lines := strings.Repeat("{\"x\":1}\n", 5000)
	for encoding, body := range map[string]string{
		"gzip": zip(lines), "x-gzip": zip(lines), "zstd": zstandard(lines), "identity": lines,
	} {
		d := newDoor()
		w := d.post("/v1/devices/a/telemetry", body, "Content-Type: application/x-ndjson", "Content-Encoding: "+encoding)
		if r := read(t, w); w.Code != 200 || r.Accepted != 5000 || len(d.log.readings()) != 5000 {
			t.Errorf("%s: %d %s", encoding, w.Code, w.Body)
		}
	}
}

// TestHTTPLongBody: a body is passed on in parts, whatever the sizes of reads,
// and indices count over all of them.
func TestHTTPLongBody(t *testing.T) {
	var body strings.Builder
	for i := range 5_000 {
		if i%1000 == 999 {
			body.WriteString("bad\n")
			continue
		}
		fmt.Fprintf(&body, "{\"i\":%d}\n", i)
	}
	for _, step := range []int{1, 7, 1000, 1 << 20} {
		d := newDoor()
		w := d.postFrom("/v1/devices/a/telemetry", &steps{body.String(), step}, "Content-Type: application/x-ndjson")
		r := read(t, w)
		if w.Code != 200 || r.Accepted != 4_995 || len(r.Refused) != 5 || r.Refused[4].Index != 4_999 {
			t.Fatalf("steps of %d: %d %s", step, w.Code, w.Body)
		}
		if got := d.log.readings(); !strings.HasSuffix(got[4_994], `{"i":4998}}`) {
			t.Errorf("the last is %s", got[4_994])
		}
	}
}

// steps is a reader that gives so many bytes at once.
type steps struct {
	rest string
	step int
}

func (s *steps) Read(b []byte) (int, error) {
	if s.rest == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), s.step)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func TestHTTPListsRefusalsToALimit(t *testing.T) {
	d := newDoor()
	w := d.post("/v1/devices/a/telemetry", strings.Repeat("bad\n", 250), "Content-Type: application/x-ndjson")
	r := read(t, w)
	if w.Code != 422 || len(r.Refused) != 100 || r.Omitted != 150 || len(d.log.dead()) != 250 || !strings.HasPrefix(r.Detail, "250 refused") {
		t.Errorf("%d %.300s", w.Code, w.Body)
	}
}

// TestHTTPBodyEndsInTheMiddle: what came whole is accepted, and said to be.
func TestHTTPBodyEndsInTheMiddle(t *testing.T) {
	d := newDoor()
	lines := zip(strings.Repeat("{\"x\":1}\n", 50_000))
	w := d.post("/v1/devices/a/telemetry", lines[:len(lines)/2], "Content-Type: application/x-ndjson", "Content-Encoding: gzip")
	r := read(t, w)
	if w.Code != 422 || r.Accepted == 0 || r.Accepted != len(d.log.readings()) || !strings.Contains(r.Detail, "ends in the middle") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestHTTPOverloadedMidway(t *testing.T) {
	d := newDoor()
	d.log.room = 150
	w := d.post("/v1/devices/a/telemetry", strings.Repeat("{\"x\":1}\n", 1000), "Content-Type: application/x-ndjson")
	r := read(t, w)
	if w.Code != 503 || r.Accepted != 100 || !strings.Contains(r.Detail, "Sending all of it again is safe where readings carry their own time") || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestHTTPAnswered(t *testing.T) {
	var status int
	var size int64
	d := newDoor(func(c *HTTPConfig) {
		c.Events.Answered = func(s int, n int64, _ time.Duration) { status, size = s, n }
	})
	d.post("/v1/devices/a/telemetry", `{"x":1}`)
	if status != 200 || size != 7 {
		t.Error(status, size)
	}
}

func TestHTTPMethods(t *testing.T) {
	w := httptest.NewRecorder()
	newDoor().ServeHTTP(w, httptest.NewRequest("GET", "/v1/telemetry", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}
}

// TestHTTPClientGoesAway: the handler returns, and the outcome that comes later
// finds nobody and blocks nothing.
func TestHTTPClientGoesAway(t *testing.T) {
	d := newDoor()
	d.log.held = true
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "POST", "/v1/devices/a/telemetry", strings.NewReader(`{"x":1}`))
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		d.ServeHTTP(httptest.NewRecorder(), r)
	}()
	cancel()
	<-returned
	d.log.ack(nil)
}

// TestHTTPSilentClient: over a real connection, a body that stops coming is
// answered, and the connection closed.
func TestHTTPSilentClient(t *testing.T) {
	d := newDoor(func(c *HTTPConfig) { c.Limits.Silence = 20 * time.Millisecond })
	server := httptest.NewServer(d)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1/devices/a/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	text, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 408 ") || !strings.Contains(string(text), "no byte of the body came in time") {
		t.Errorf("%s %v", text, err)
	}
}

// TestHTTPSlowAnswer: over a real connection, waiting for the log longer than
// Silence does not end the request.
func TestHTTPSlowAnswer(t *testing.T) {
	d := newDoor(func(c *HTTPConfig) { c.Limits.Silence = 20 * time.Millisecond })
	d.log.held = true
	server := httptest.NewServer(d)
	defer server.Close()
	defer time.AfterFunc(100*time.Millisecond, func() { d.log.ack(nil) }).Stop()
	answer, err := server.Client().Post(server.URL+"/v1/devices/a/telemetry", "", strings.NewReader(`{"x":1}`))
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", answer, err)
	}
	answer.Body.Close()
	server.Client().CloseIdleConnections()
}

func TestHTTPLogNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		d.log.held = true
		w := d.post("/v1/devices/a/telemetry", `{"x":1}`)
		if r := read(t, w); w.Code != 503 || !strings.Contains(r.Detail, "has not acknowledged within 30s") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		d.log.ack(nil)
	})
}
