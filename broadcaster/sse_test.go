package broadcaster

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"millrace/telemetry"
)

// serve is a hub with its HTTP side on a loopback address.
func serve(t *testing.T, h2 bool) (*rig, string, *http.Client) {
	t.Helper()
	g := &rig{t: t, log: newFakeLog(2)}
	hub, err := NewHub(Config{Log: &reader{fakeLog: g.log, random: rand.New(rand.NewPCG(1, 1))}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.hub, g.cancel, g.done = hub, cancel, make(chan struct{})
	go func() {
		defer close(g.done)
		_ = hub.Run(ctx) // always nil
	}()
	server := httptest.NewUnstartedServer(NewHandler(hub, HandlerConfig{}))
	server.EnableHTTP2 = h2
	if h2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		g.stop()
		server.Client().CloseIdleConnections()
		server.Close()
	})
	return g, server.URL, server.Client()
}

func ask(t *testing.T, client *http.Client, url, lastID string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// event reads one event of a stream; those without data are passed over.
func event(t *testing.T, r *bufio.Reader) (name, id, data string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch field, value, _ := strings.Cut(line, ": "); field {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if data != "" {
				return name, id, data
			}
		}
	}
}

func TestStream(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP1", true: "HTTP2"}[h2], func(t *testing.T) {
			g, url, client := serve(t, h2)
			response := ask(t, client, url+"/v1/stream?device=d*", "")
			if got := response.Header.Get("Content-Type"); got != "text/event-stream" || response.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("headers %v", response.Header)
			}
			r := bufio.NewReader(response.Body)
			if name, _, _ := event(t, r); name != EventLive {
				t.Fatalf("the first event is %s", name)
			}
			first, second := said("d1", 1, `"n":1`), said("d2", 2, `"n":2`)
			g.log.append(1, first)
			name, id, data := event(t, r)
			if name != "" || data != first {
				t.Fatalf("received %s %s", name, data)
			}
			_ = response.Body.Close()
			g.log.append(0, second)
			r = bufio.NewReader(ask(t, client, url+"/v1/stream?device=d*&snapshot=true", id).Body)
			for name, _, data = event(t, r); name == EventLive; {
				name, _, data = event(t, r)
			}
			if data != second {
				t.Errorf("resumed with %s %s, want the second reading", name, data)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	_, url, client := serve(t, false)
	f := func(path string, status int, named string) {
		t.Helper()
		response := ask(t, client, url+path, "")
		body, err := io.ReadAll(response.Body)
		var p telemetry.Problem
		if err != nil || json.Unmarshal(body, &p) != nil || response.StatusCode != status || !strings.Contains(p.Detail, named) {
			t.Errorf("%s is answered %d %s, want %d with %q", path, response.StatusCode, body, status, named)
		}
	}
	f("/v1/stream?devise=x", 422, "devise")
	f("/v1/stream?every=often", 422, "every")
	f("/v1/stream?from=-1h", 422, "no database")
	f("/v1/stream?cursor="+telemetry.Cursor{Log: 99, Next: []int64{1}}.String(), 410, "deleted")
	f("/v1/stream?cursor="+telemetry.Cursor{Log: 7, Next: []int64{100, 0}}.String(), 410, "never reached")
	f("/v1/latest?every=1s", 422, "every")
	f("/v1/top", 422, "metric")
	f("/v1/top?metric=n&n=0", 422, "n:")
}

func TestLatestAndTop(t *testing.T) {
	g, url, client := serve(t, false)
	r := bufio.NewReader(ask(t, client, url+"/v1/stream", "").Body)
	event(t, r)
	g.log.append(1, said("d1", 1, `"n":1`))
	event(t, r)
	g.log.append(1, said("d3", 2, `"n":3`))
	event(t, r)
	f := func(path, want string) {
		t.Helper()
		body, err := io.ReadAll(ask(t, client, url+path, "").Body)
		if got := strings.ReplaceAll(string(body), "\n", ""); err != nil || !strings.HasSuffix(got, want) {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	f("/v1/latest", `"readings":[`+said("d1", 1, `"n":1`)+`,`+said("d3", 2, `"n":3`)+`]}`)
	f("/v1/latest?where=n>1", `"readings":[`+said("d3", 2, `"n":3`)+`]}`)
	f("/v1/top?metric=n&n=1", `{"devices":[{"device":"d3","time":"2000-01-01T00:00:02.000000Z","value":3}],"metric":"n"}`)
	f("/v1/top?metric=n&n=1&order=asc", `{"devices":[{"device":"d1","time":"2000-01-01T00:00:01.000000Z","value":1}],"metric":"n"}`)
}
