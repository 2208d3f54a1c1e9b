package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// series is a device that counts: what it says can be checked for gaps,
// duplicates and order.
type series struct {
	device string
	from   time.Time
}

func (s series) reading(n int) string {
	return fmt.Sprintf(`{"device":%q,"time":%q,"values":{"n":%d}}`,
		s.device, s.from.Add(time.Duration(n)*time.Millisecond).Format("2006-01-02T15:04:05.000000Z"), n)
}

// readings from n up to before m, in the canonical form.
func (s series) readings(n, m int) []string {
	var list []string
	for ; n < m; n++ {
		list = append(list, s.reading(n))
	}
	return list
}

// say publishes the readings from n up to before m and returns when the log has
// acknowledged them.
func (d *deployment) say(s series, n, m int) {
	d.t.Helper()
	answer := d.post(d.t, "/v1/telemetry?form=ndjson", "", strings.Join(s.readings(n, m), "\n"))
	if answer.Accepted != m-n {
		d.t.Fatalf("readings %d to %d: %+v", n, m, answer)
	}
}

// resumed follows what a stream shows from a place on.
func (d *deployment) resumed(want int, query url.Values, lastID string) *follower {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	d.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.http+"/v1/stream?"+query.Encode(), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		d.t.Fatalf("GET /v1/stream?%s: %v %v", query.Encode(), response, err)
	}
	f := newFollower(want, cancel)
	go func() { // ends when all have come, or when cancel ends the stream
		defer close(f.done)
		defer response.Body.Close()
		f.readSSE(bufio.NewScanner(response.Body), func() {})
	}()
	return f
}

func (d *deployment) resumedSocket(want int, subscribe map[string]any) *follower {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	d.t.Cleanup(cancel)
	socket, _, err := websocket.Dial(ctx, "ws://"+d.http+"/v1/ws", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	subscribe["op"], subscribe["id"] = "subscribe", "a"
	message, err := json.Marshal(subscribe)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := socket.Write(ctx, websocket.MessageText, message); err != nil {
		d.t.Fatal(err)
	}
	f := newFollower(want, cancel)
	go func() { // ends when all have come, or when cancel ends the connection
		defer close(f.done)
		defer socket.CloseNow()
		f.readSocket(ctx, socket, sync.OnceFunc(func() {}))
	}()
	return f
}

func (s series) same(t *testing.T, who string, got map[string][]string, n, m int) {
	t.Helper()
	if want := s.readings(n, m); !slices.Equal(got[s.device], want) {
		t.Errorf("%s: got %d readings, want %d to %d:\n%s", who, len(got[s.device]), n, m, strings.Join(got[s.device], "\n"))
	}
}

// TestResume: a screen goes on where it stopped, with no gap and no duplicate,
// after a kill -9 of everything; the past and what is live are one.
func TestResume(t *testing.T) {
	d := newDeployment(t)
	s := series{"counter", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)}
	sse, socket := d.followSSE(100), d.followWebSocket(100)
	d.say(s, 0, 100)
	s.same(t, "SSE before the kill", sse.wait(t), 0, 100)
	s.same(t, "WebSocket before the kill", socket.wait(t), 0, 100)
	d.say(s, 100, 150) // said while nobody listens
	d.Kill()
	d.up()
	sse2 := d.resumed(250, url.Values{}, sse.cursor)
	socket2 := d.resumedSocket(250, map[string]any{"from": socket.cursor})
	past := d.resumed(350, url.Values{"from": {"-1h"}, "device": {"count*"}}, "")
	pastSocket := d.resumedSocket(350, map[string]any{"from": "-1h", "metric": []string{"n"}})
	for n := 150; n < 350; n += 20 {
		d.say(s, n, n+20)
	}
	s.same(t, "SSE after the kill", sse2.wait(t), 100, 350)
	s.same(t, "WebSocket after the kill", socket2.wait(t), 100, 350)
	s.same(t, "past, then live", past.wait(t), 0, 350)
	s.same(t, "past, then live, WebSocket", pastSocket.wait(t), 0, 350)

	t.Run("the middle of the past", func(t *testing.T) {
		half := d.resumed(200, url.Values{"from": {"-1h"}}, "")
		half.wait(t)
		s.same(t, "on from a cursor in the past", d.resumed(150, url.Values{}, half.cursor).wait(t), 200, 350)
	})
	t.Run("replay", func(t *testing.T) { d.replays(t, s) })
	t.Run("a cursor of another log", func(t *testing.T) {
		other := newDeployment(t)
		answer := other.problem(t, "/v1/stream?from="+sse.cursor)
		if answer.Status != http.StatusGone || answer.Detail == "" {
			t.Errorf("answered %+v, want 410", answer)
		}
	})
}

// replays: the command prints the bytes that were live.
func (d *deployment) replays(t *testing.T, s series) {
	at := func(n int) string { return s.from.Add(time.Duration(n) * time.Millisecond).Format(time.RFC3339Nano) }
	d.settle(350, "select count(*) from telemetry where device = 'counter'")
	out := must(t, "replay", "--data", d.data, "--from", at(40), "--to", at(260))
	if want := strings.Join(s.readings(40, 260), "\n") + "\n"; out != want {
		t.Errorf("replay printed\n%s", out)
	}
	out = must(t, "replay", "--data", d.data, "--from=-1h", "--to", at(260), "--where", "n>=250", "--device", "c*")
	if want := strings.Join(s.readings(250, 260), "\n") + "\n"; out != want {
		t.Errorf("replay --where printed\n%s", out)
	}
}

// problem is the answer to a GET that cannot be.
func (d *deployment) problem(t *testing.T, path string) posted {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.http+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return decode[posted](t, request, "")
}
