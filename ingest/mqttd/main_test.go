package mqttd

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/devices"
	"millrace/ingest"
	"millrace/telemetry"
	"millrace/telemetry/format"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What this door is wired with.
var (
	_ Gate     = (*ingest.Gate)(nil)
	_ Patterns = (*ingest.Patterns)(nil)
)

// patience bounds every wait of these tests; reaching it is a failure.
const patience = 20 * time.Second

// call is a message that the gate was given, and the test's hand on its outcome.
type call struct {
	ingest.Message
	done func(ingest.Outcome)
}

func (c call) keep()           { c.done(ingest.Outcome{Accepted: 1}) }
func (c call) fail(err error)  { c.done(ingest.Outcome{Err: err}) }
func (c call) payload() string { return string(c.Payload) }
func (c call) refuse(r telemetry.Reason) {
	c.done(ingest.Outcome{Refused: []ingest.Refused{{Err: telemetry.Refuse(r, "refused by the test")}}})
}

// handGate gives every message to the test, which says what becomes of it.
type handGate struct{ calls chan call }

func newHandGate() *handGate { return &handGate{calls: make(chan call, 4096)} }

func (g *handGate) Accept(ctx context.Context, m ingest.Message, done func(ingest.Outcome)) {
	m.Payload = append([]byte(nil), m.Payload...)
	var once sync.Once
	finish := func(o ingest.Outcome) { once.Do(func() { done(o) }) }
	context.AfterFunc(ctx, func() { finish(ingest.Outcome{Err: telemetry.ErrClosed}) })
	g.calls <- call{m, finish}
}

func (g *handGate) next(t testing.TB) call {
	t.Helper()
	select {
	case c := <-g.calls:
		return c
	case <-time.After(patience):
		t.Fatal("no message came to the gate")
		return call{}
	}
}

// none says that nothing is waiting at the gate. What was sent before must have
// been read for certain: the caller has seen an answer to something behind it.
func (g *handGate) none(t testing.TB) {
	t.Helper()
	select {
	case c := <-g.calls:
		t.Fatalf("the gate got %s %q", c.Topic, c.payload())
	default:
	}
}

// quickGate keeps everything, on another goroutine.
type quickGate struct{ done chan func(ingest.Outcome) }

func newQuickGate(t testing.TB) *quickGate {
	g := &quickGate{done: make(chan func(ingest.Outcome), 1<<16)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for done := range g.done {
			done(ingest.Outcome{Accepted: 1})
		}
	}()
	t.Cleanup(func() { close(g.done); <-over })
	return g
}

func (g *quickGate) Accept(_ context.Context, _ ingest.Message, done func(ingest.Outcome)) {
	g.done <- done
}

// testPatterns are the default topics, matched in the simplest way.
type testPatterns struct{}

func (testPatterns) Match(topic string) (ingest.Route, bool) {
	levels := strings.Split(topic, "/")
	switch {
	case topic == "v1/devices/me/telemetry":
		return ingest.Route{Me: true, Form: format.JSON}, true
	case levels[0] == "telemetry" && len(levels) == 2:
		return ingest.Route{Device: levels[1], Form: format.JSON}, true
	case levels[0] == "telemetry" && len(levels) == 3:
		return ingest.Route{Device: levels[1], Metric: levels[2], Form: format.Value}, true
	}
	return ingest.Route{}, false
}

// tokens is an authenticator: user and password are the device's name.
type tokens struct{}

func (tokens) Authenticate(_ context.Context, user, password string) (devices.Principal, error) {
	switch {
	case user == "away":
		return devices.Principal{}, telemetry.ErrUnavailable
	case user == "" || user != password:
		return devices.Principal{}, telemetry.ErrUnauthorized
	}
	return devices.Principal{Device: user}, nil
}

// start runs a door; stop waits until it has ended.
func start(t testing.TB, config Config) (s *Server, stop func()) {
	t.Helper()
	if config.Addr == "" {
		config.Addr = "127.0.0.1:0"
	}
	if config.Auth == nil {
		config.Auth = devices.Open{}
	}
	if config.Patterns == nil {
		config.Patterns = testPatterns{}
	}
	s, err := Listen(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ran; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return s, stop
}

// raw is a client that speaks in bytes.
type raw struct {
	t testing.TB
	net.Conn
}

func dialRaw(t testing.TB, s *Server) *raw {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &raw{t, c}
}

// send writes packets: strings are bytes.
func (r *raw) send(packets ...string) {
	r.t.Helper()
	if _, err := io.WriteString(r, strings.Join(packets, "")); err != nil {
		r.t.Fatalf("send: %v", err)
	}
}

// want reads exactly these bytes.
func (r *raw) want(packets ...string) {
	r.t.Helper()
	want := strings.Join(packets, "")
	got := make([]byte, len(want))
	n, err := io.ReadFull(r, got)
	if err != nil || string(got) != want {
		r.t.Fatalf("got % x (%v)\nwant % x", got[:n], err, want)
	}
}

// packet reads one whole packet.
func (r *raw) packet() string {
	r.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		r.t.Fatalf("no packet came: %v", err)
	}
	n, size := varint(head[1:])
	for size == 0 {
		head = append(head, 0)
		if _, err := io.ReadFull(r, head[len(head)-1:]); err != nil {
			r.t.Fatal(err)
		}
		n, size = varint(head[1:])
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		r.t.Fatal(err)
	}
	return string(head) + string(body)
}

// ends reads until the server has closed, and answers what came before.
func (r *raw) ends() string {
	r.t.Helper()
	rest, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		r.t.Fatalf("the connection did not end: %v after % x", err, rest)
	}
	return string(rest)
}

// ping shows that all that was sent before has been read, and that nothing else
// was answered.
func (r *raw) ping() {
	r.t.Helper()
	r.send("\xc0\x00")
	r.want("\xd0\x00")
}

// login sends a CONNECT of the version and takes CONNACK.
func (r *raw) login(version byte, clean bool, id string) (present bool) {
	r.t.Helper()
	r.send(connectPacket(version, clean, id))
	ack := r.packet()
	if ack[0] != 0x20 || ack[3] != 0 {
		r.t.Fatalf("CONNACK % x", ack)
	}
	return ack[2] == 1
}

// str is a field: two bytes of length and the bytes.
func str(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }

func pack(head byte, body ...string) string {
	all := strings.Join(body, "")
	return string(appendVarint([]byte{head}, len(all))) + all
}

func connectPacket(version byte, clean bool, id string) string {
	flags := byte(0)
	if clean {
		flags = 2
	}
	name, properties := "MQTT", ""
	switch version {
	case 3:
		name = "MQIsdp"
	case 5:
		properties = "\x05\x11\x00\x00\x0e\x10" // session expiry: an hour
	}
	return pack(0x10, str(name), string([]byte{version, flags, 0, 60}), properties, str(id))
}

// publishPacket with QoS and DUP; id is left out for QoS 0.
func publishPacket(version, flags byte, id uint16, topic, payload string) string {
	ids, properties := "", ""
	if flags&6 != 0 {
		ids = string([]byte{byte(id >> 8), byte(id)})
	}
	if version == 5 {
		properties = "\x00"
	}
	return pack(0x30|flags, str(topic), ids, properties, payload)
}

func ackPacket(head byte, id uint16) string { return string([]byte{head, 2, byte(id >> 8), byte(id)}) }

const (
	puback  = 0x40
	pubrec  = 0x50
	pubrel  = 0x62
	pubcomp = 0x70
)
