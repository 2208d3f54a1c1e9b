package deploy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"millrace/internal/testkit"
)

// proxied starts nginx with the configuration that is deployed, in front of
// the given servers, and answers its address.
func proxied(t *testing.T, doors, first, second *httptest.Server) string {
	t.Helper()
	text, err := os.ReadFile("nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	addr := testkit.Loopback(testkit.FreePort(t))
	conf := strings.NewReplacer(
		"ingest:8080", doors.Listener.Addr().String(), "broadcast-1:8080", first.Listener.Addr().String(),
		"broadcast-2:8080", second.Listener.Addr().String(), "listen 8080", "listen "+addr,
	).Replace(string(text))
	testkit.Nginx(t, addr, conf)
	return addr
}

// backend answers with its name and the path, and streams when asked for one.
func backend(t *testing.T, name string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %s %s", name, r.Method, r.URL.Path, r.Host)
	})
	mux.HandleFunc("/v1/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // the rest of the stream is long in coming
	})
	mux.HandleFunc("/v1/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil) // checks Origin against Host
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func request(t *testing.T, client *http.Client, method, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(strings.Repeat("x", 2<<20)))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func plainClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

func TestNginxSendsEachPathToItsRole(t *testing.T) {
	addr := proxied(t, backend(t, "doors"), backend(t, "screens"), backend(t, "screens"))
	for path, want := range map[string]string{
		"/v1/telemetry":                 "doors POST /v1/telemetry " + addr,
		"/v1/devices/truck-7/telemetry": "doors POST /v1/devices/truck-7/telemetry " + addr,
		"/v1/devices":                   "screens POST /v1/devices " + addr,
		"/":                             "screens POST / " + addr,
	} {
		if status, body := request(t, plainClient(), http.MethodPost, "http://"+addr+path); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", path, status, body, want)
		}
	}
	if status, _ := request(t, plainClient(), http.MethodGet, "http://"+addr+"/metrics"); status != http.StatusNotFound {
		t.Errorf("/metrics answers %d to everybody", status)
	}
}

func TestNginxHoldsNoEventBack(t *testing.T) {
	addr := proxied(t, backend(t, "doors"), backend(t, "a"), backend(t, "b"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := plainClient().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if line, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil || line != "data: first\n" {
		t.Errorf("got %q, %v while the stream is open", line, err)
	}
}

func TestNginxCarriesWebSockets(t *testing.T) {
	addr := proxied(t, backend(t, "doors"), backend(t, "a"), backend(t, "b"))
	conn, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/v1/ws", &websocket.DialOptions{
		HTTPClient: plainClient(), HTTPHeader: http.Header{"Origin": {"http://" + addr}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.Read(t.Context()); err != nil || string(message) != "hello" {
		t.Errorf("got %q, %v", message, err)
	}
}

func TestNginxGoesOnWithTheOtherBroadcaster(t *testing.T) {
	first := backend(t, "first")
	addr := proxied(t, backend(t, "doors"), first, backend(t, "second"))
	first.Close()
	for range 4 {
		if status, body := request(t, plainClient(), http.MethodGet, "http://"+addr+"/v1/latest"); status != http.StatusOK ||
			!strings.HasPrefix(body, "second") {
			t.Errorf("%d %q", status, body)
		}
	}
}
