package ws_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"millrace/broadcaster"
	"millrace/broadcaster/ws"
	"millrace/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryLog is a log of one partition in memory.
type memoryLog struct {
	mu      sync.Mutex
	records []telemetry.Record
	grown   chan struct{}
}

func newLog() *memoryLog { return &memoryLog{grown: make(chan struct{})} }

func (l *memoryLog) append(readings ...telemetry.Reading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range readings {
		l.records = append(l.records, telemetry.Record{
			Position: telemetry.Position{Offset: int64(len(l.records))},
			Entry:    telemetry.Entry{Value: readings[i].AppendJSON(nil)},
		})
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *memoryLog) Bounds(context.Context) (first, next telemetry.Cursor, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return telemetry.Cursor{Log: 1, Next: []int64{0}}, telemetry.Cursor{Log: 1, Next: []int64{int64(len(l.records))}}, nil
}

func (l *memoryLog) Follow(ctx context.Context, from, to telemetry.Cursor, handle func([]telemetry.Record) error) error {
	for at := from.Next[0]; ; {
		l.mu.Lock()
		end, grown := int64(len(l.records)), l.grown
		if to.Next != nil {
			end = min(end, to.Next[0])
		}
		batch := l.records[at:max(at, end)]
		l.mu.Unlock()
		if len(batch) > 0 {
			if err := handle(batch); err != nil {
				return err
			}
			at += int64(len(batch))
		}
		if to.Next != nil && at >= to.Next[0] {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// house is a hub with both doors on a loopback address.
type house struct {
	log  *memoryLog
	hub  *broadcaster.Hub
	url  string
	stop func()
}

func open(t testing.TB, c ws.Config) *house {
	t.Helper()
	h := &house{log: newLog()}
	var err error
	h.hub, err = broadcaster.NewHub(broadcaster.Config{Log: h.log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.hub.Run(ctx) // always nil
	}()
	mux := http.NewServeMux()
	mux.Handle("/v1/ws", ws.NewHandler(h.hub, c))
	mux.Handle("/v1/", broadcaster.NewHandler(h.hub, broadcaster.HandlerConfig{}))
	server := httptest.NewServer(mux)
	h.url = server.URL
	h.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		server.Close()
	})
	t.Cleanup(h.stop)
	<-h.hub.Ready()
	return h
}

func reading(device string, speed float64) telemetry.Reading {
	return telemetry.Reading{
		Device: device, Time: time.Now().UTC().Truncate(time.Microsecond),
		Metrics: []telemetry.Metric{{Name: "speed", Value: telemetry.Number(speed)}},
	}
}

// message is what the server says.
type message struct {
	ID       string
	Cursor   string
	Event    string
	Status   int
	Detail   string
	Readings []struct {
		Device string
		Values map[string]any
	}
}

// screen is a client.
type screen struct {
	t    *testing.T
	conn *websocket.Conn
}

func dial(t *testing.T, h *house, query string) *screen {
	t.Helper()
	conn, response, err := websocket.Dial(t.Context(), h.url+"/v1/ws"+query, nil)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, response)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &screen{t, conn}
}

func (s *screen) say(format string, args ...any) {
	s.t.Helper()
	if err := s.conn.Write(s.t.Context(), websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) hear() message {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	_, b, err := s.conn.Read(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		s.t.Fatalf("%s: %v", b, err)
	}
	return m
}

// want is a compact form of a message.
func (m message) String() string {
	b := new(strings.Builder)
	fmt.Fprintf(b, "%s %s", m.ID, m.Event)
	if m.Status != 0 {
		fmt.Fprintf(b, " %d %s", m.Status, m.Detail)
	}
	for _, r := range m.Readings {
		fmt.Fprintf(b, " %s=%v", r.Device, r.Values["speed"])
	}
	return b.String()
}

func (s *screen) expect(want string) message {
	s.t.Helper()
	m := s.hear()
	if m.String() != want {
		s.t.Fatalf("heard %q, want %q", m, want)
	}
	return m
}

func TestOperations(t *testing.T) {
	h := open(t, ws.Config{})
	s := dial(t, h, "")
	s.say(`{"op":"subscribe","id":"a","device":"truck-*"}`)
	s.expect("a live")
	h.log.append(reading("truck-1", 1), reading("car-1", 2), reading("truck-2", 3))
	s.expect("a  truck-1=1 truck-2=3")
	s.say(`{"op":"pause","id":"a"}`)
	at := s.expect("a ").Cursor
	h.log.append(reading("truck-1", 4))
	s.say(`{"op":"subscribe","id":"b","where":["speed>3"],"snapshot":true}`)
	for m := s.hear(); m.Event != "live"; m = s.hear() {
		if m.ID != "b" {
			t.Fatalf("heard %v", m)
		}
	}
	s.say(`{"op":"unsubscribe","id":"b"}`)
	s.expect("b end")
	s.say(`{"op":"resume","id":"a"}`)
	s.expect("a  truck-1=4")
	s.say(`{"op":"seek","id":"a","from":%q}`, at)
	s.expect("a  truck-1=4")
	s.expect("a live")
	s.say(`{"op":"update","id":"a","device":["car-1"]}`)
	s.expect("a live")
	h.log.append(reading("truck-1", 5), reading("car-1", 6))
	s.expect("a  car-1=6")
}

func TestResumeOnAnotherConnection(t *testing.T) {
	h := open(t, ws.Config{})
	s := dial(t, h, "?device=*")
	s.expect(" live")
	h.log.append(reading("a", 1))
	cursor := s.expect("  a=1").Cursor
	_ = s.conn.CloseNow()
	h.log.append(reading("a", 2), reading("b", 3))
	s = dial(t, h, "?from="+cursor)
	// Whether the hub has read them before the resume or after, they come once.
	heard := ""
	for !strings.Contains(heard, "b=3") || !strings.Contains(heard, "live") {
		heard += s.hear().String()
	}
	if strings.Count(heard, "=") != 2 || !strings.Contains(heard, "a=2") {
		t.Errorf("heard %q, want a=2 and b=3 once each", heard)
	}
}

func TestErrorsNameTheThing(t *testing.T) {
	h := open(t, ws.Config{})
	s := dial(t, h, "")
	f := func(say, want string) {
		t.Helper()
		s.say("%s", say)
		if m := s.hear(); m.Event != "error" || !strings.Contains(m.String(), want) {
			t.Errorf("%s is answered %q, want an error with %q", say, m, want)
		}
	}
	f(`{"op":"dance","id":"a"}`, "a error 422 op: dance is unknown")
	f(`{"op":`, "one JSON object")
	f(`[]`, "one JSON object")
	f(`{"op":"subscribe","id":"a"} x`, "one JSON object")
	f(`{"id":"a"}`, "op: is missing")
	f(`{"op":"subscribe","id":"a","devise":"x"}`, "devise")
	f(`{"op":"subscribe","id":"a","device":{"x":1}}`, "device: is not a string")
	f(`{"op":"subscribe","id":"a","where":"speed"}`, "where")
	f(`{"op":"subscribe","id":"a","from":"yesterday"}`, "from")
	f(`{"op":"subscribe","id":"a","from":"-1h"}`, "no database")
	f(`{"op":"pause","id":"zz"}`, "no subscription")
	f(`{"op":"speed","id":"a","speed":-1}`, "speed")
	f(`{"op":"subscribe","id":"`+strings.Repeat("x", 65)+`"}`, "64 bytes")
	s.say(`{"op":"subscribe","id":"a"}`)
	s.expect("a live")
	f(`{"op":"subscribe","id":"a"}`, "in use")
}

func TestSubscriptionsAreLimited(t *testing.T) {
	h := open(t, ws.Config{})
	s := dial(t, h, "")
	for i := range h.hub.Limits().Subscriptions {
		s.say(`{"op":"subscribe","id":"%d"}`, i)
		s.hear()
	}
	s.say(`{"op":"subscribe","id":"more"}`)
	if m := s.hear(); !strings.Contains(m.Detail, "64 subscriptions") {
		t.Errorf("one too many is answered %v", m)
	}
}

func TestStopSaysGoingAway(t *testing.T) {
	h := open(t, ws.Config{})
	s := dial(t, h, "?device=*")
	s.expect(" live")
	h.log.append(reading("a", 1))
	s.expect("  a=1")
	go h.stop()
	_, _, err := s.conn.Read(t.Context())
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the connection ended with %v, want 1001", err)
	}
}

func TestBinaryAndLargeMessagesEnd(t *testing.T) {
	h := open(t, ws.Config{Limits: ws.Limits{Message: 1000}})
	s := dial(t, h, "")
	if err := s.conn.Write(t.Context(), websocket.MessageBinary, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("a binary message ended with %v, want 1003", err)
	}
	s = dial(t, h, "")
	s.say("%s", strings.Repeat("x", 2000))
	if _, _, err := s.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("a large message ended with %v, want 1009", err)
	}
}

// raw shakes hands and sends frames in one write.
func raw(t *testing.T, h *house, frames string) *bufio.Reader {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET /v1/ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"+frames)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v %v", response, err)
	}
	return r
}

// What a client sends right behind its request is not lost.
func TestEarlyBytes(t *testing.T) {
	h := open(t, ws.Config{})
	r := raw(t, h, "\x89\x82\x00\x00\x00\x00hi") // a ping, masked with zeros
	got := make([]byte, 4)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "\x8a\x02hi" {
		t.Errorf("the ping was answered %q, %v", got, err)
	}
}

// The library panics over a length of 2^63 and more: the process must live.
func TestImpossibleLength(t *testing.T) {
	h := open(t, ws.Config{})
	r := raw(t, h, "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00")
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
	dial(t, h, "?device=*").expect(" live")
}

func TestRefusedBeforeTheUpgrade(t *testing.T) {
	h := open(t, ws.Config{})
	f := func(query string, header http.Header, status int) {
		t.Helper()
		conn, response, err := websocket.Dial(t.Context(), h.url+"/v1/ws"+query, &websocket.DialOptions{HTTPHeader: header})
		if err == nil {
			_ = conn.CloseNow()
			t.Errorf("%s was let in", query)
			return
		}
		if response == nil || response.StatusCode != status || response.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s is answered %v, want %d", query, response, status)
		}
	}
	f("?devise=x", nil, 422)
	f("?from="+telemetry.Cursor{Log: 99, Next: []int64{1}}.String(), nil, 410)
	f("", http.Header{"Origin": {"https://elsewhere.example"}}, 403)
}

func TestSilentClientIsClosed(t *testing.T) {
	h := open(t, ws.Config{Limits: ws.Limits{Ping: 20 * time.Millisecond}})
	r := raw(t, h, "")
	rest, err := io.ReadAll(r) // never answers the ping
	if err != nil || !strings.HasPrefix(string(rest), "\x89\x00\x88") {
		t.Errorf("a silent client got %q, %v: want a ping and a close frame", rest, err)
	}
}
