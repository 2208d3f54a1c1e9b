package mqttd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"millrace/telemetry"
)

func TestAPortTakenNamesAddressAndFlag(t *testing.T) {
	s, _ := start(t, Config{Gate: newHandGate()})
	config := s.config
	config.Addr = s.Addr().String()
	_, err := Listen(config)
	if err == nil || !strings.Contains(err.Error(), config.Addr) || !strings.Contains(err.Error(), "--mqtt") {
		t.Fatalf("got %v", err)
	}
	config.Addr = "127.0.0.1:0"
	unused, err := Listen(config)
	if err != nil || unused.Close() != nil {
		t.Fatalf("a door that is not run: %v", err)
	}
	config.Addr = "nowhere.invalid:1"
	if _, err = Listen(config); err == nil || !strings.Contains(err.Error(), "--mqtt") {
		t.Fatalf("got %v", err)
	}
}

func TestInFlightLimitStopsReadingOfOldClients(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate, Limits: Limits{InFlight: 2}})
	c := dialRaw(t, s)
	c.login(4, true, "c")
	for id := range uint16(4) {
		c.send(publishPacket(4, 2, id+1, "telemetry/a", "x"))
	}
	one, two := gate.next(t), gate.next(t)
	other := dialRaw(t, s)
	other.login(4, true, "other")
	gate.none(t)
	one.keep()
	c.want(ackPacket(puback, 1))
	three := gate.next(t)
	two.keep()
	three.keep()
	gate.next(t).keep()
	c.want(ackPacket(puback, 2), ackPacket(puback, 3), ackPacket(puback, 4))
}

func TestInFlightLimitIsToldToNewClients(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate, Limits: Limits{InFlight: 2}})
	c := dialRaw(t, s)
	c.send(connectPacket(5, true, "c"))
	if ack := c.packet(); !strings.Contains(ack, "\x21\x00\x02") {
		t.Fatalf("CONNACK % x tells no receive maximum", ack)
	}
	c.send(publishPacket(5, 2, 1, "telemetry/a", "x"), publishPacket(5, 4, 2, "telemetry/a", "x"))
	one, two := gate.next(t), gate.next(t)
	one.keep()
	two.keep()
	c.want(ackPacket(puback, 1), ackPacket(pubrec, 2))
	c.send(publishPacket(5, 2, 3, "telemetry/a", "x"), publishPacket(5, 2, 4, "telemetry/a", "x"))
	three := gate.next(t)
	if end := c.ends(); end[0] != 0xe0 || end[2] != 0x93 {
		t.Fatalf("got % x, want DISCONNECT 0x93", end)
	}
	three.keep()
}

func TestBufferedBytesLimitWaitsForQoS1AndDropsQoS0(t *testing.T) {
	gate := newHandGate()
	dropped := make(chan error, 10)
	s, _ := start(t, Config{
		Gate: gate, Limits: Limits{BufferedBytes: 1000},
		Events: Events{Dropped: func(err error) { dropped <- err }},
	})
	c := dialRaw(t, s)
	c.login(4, true, "c")
	payload := strings.Repeat("x", 600)
	c.send(publishPacket(4, 2, 1, "telemetry/a", payload), publishPacket(4, 0, 0, "telemetry/a", payload))
	one := gate.next(t)
	if err := <-dropped; !errors.Is(err, telemetry.ErrOverloaded) {
		t.Fatalf("dropped with %v", err)
	}
	c.send(publishPacket(4, 2, 2, "telemetry/a", payload))
	one.keep()
	c.want(ackPacket(puback, 1))
	gate.next(t).keep()
	c.want(ackPacket(puback, 2))
	if used := s.room.used.Load(); used != 0 {
		t.Fatalf("%d bytes are still counted", used)
	}
}

func TestPacketLimits(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate, Limits: Limits{PacketBytes: 40_000, LoginBytes: 100}})
	c := dialRaw(t, s)
	c.send("\x10\xff\xff\xff\x7f") // a CONNECT of 256 MB: nothing is allocated for it
	if end := c.ends(); end != "" {
		t.Fatalf("got % x", end)
	}
	c = dialRaw(t, s)
	c.login(5, true, "c")
	payload := strings.Repeat("x", 39_000)
	c.send(publishPacket(5, 2, 1, "telemetry/a", payload))
	if m := gate.next(t); m.payload() != payload {
		t.Fatal("a large payload came different")
	} else {
		m.keep()
	}
	c.want(ackPacket(puback, 1))
	c.send("\x32\xff\xff\x7f")
	if end := c.ends(); end[0] != 0xe0 || end[2] != 0x95 {
		t.Fatalf("got % x, want DISCONNECT 0x95", end)
	}
}

func TestConnectionLimitsAnswer(t *testing.T) {
	for limit, limits := range map[string]Limits{"connections": {Connections: 1}, "address": {PerAddress: 1}} {
		refused := make(chan string, 10)
		closed := make(chan struct{}, 10)
		s, _ := start(t, Config{Gate: newHandGate(), Limits: limits, Events: Events{
			Refused: func(l string) { refused <- l }, Closed: func() { closed <- struct{}{} },
		}})
		first := dialRaw(t, s)
		first.login(4, true, "first")
		old, now := dialRaw(t, s), dialRaw(t, s)
		old.send(connectPacket(4, true, "old"))
		if ack := old.ends(); ack != "\x20\x02\x00\x03" {
			t.Fatalf("CONNACK % x", ack)
		}
		now.send(connectPacket(5, true, "now"))
		if ack := now.ends(); ack[0] != 0x20 || ack[3] != 0x97 || !strings.Contains(ack, limit) {
			t.Fatalf("CONNACK % x", ack)
		}
		if got := <-refused; got != limit {
			t.Fatalf("refused by %s", got)
		}
		first.ping()
		_ = first.Close()
		<-closed
		dialRaw(t, s).login(4, true, "second")
	}
}

// flaky is a listener out of files: Accept fails before it works.
type flaky struct {
	net.Listener
	failures int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestAcceptGoesOnAfterAnError(t *testing.T) {
	gate := newHandGate()
	s, err := Listen(Config{Addr: "127.0.0.1:0", Gate: gate, Auth: tokens{}, Patterns: testPatterns{}})
	if err != nil {
		t.Fatal(err)
	}
	s.listener = &flaky{s.listener, 3}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	c := dialRaw(t, s)
	c.send(loginPacket(4, "c", "truck-7", "truck-7"))
	c.want("\x20\x02\x00\x00")
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
}

func TestManySubscriptionsAreRefused(t *testing.T) {
	s, _ := start(t, Config{Gate: newHandGate(), Limits: Limits{Subscriptions: 2}})
	c := dialRaw(t, s)
	c.login(5, true, "c")
	c.send(pack(0x82, "\x00\x01\x00", str("a"), "\x00", str("b"), "\x00"))
	c.want("\x90\x05\x00\x01\x00\x00\x00")
	c.send(pack(0x82, "\x00\x02\x00", str("c"), "\x00"))
	if end := c.ends(); end[0] != 0xe0 || end[2] != 0x97 {
		t.Fatalf("got % x, want DISCONNECT 0x97", end)
	}
}

func TestRetainedAndSessionLimits(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate, Limits: Limits{Retained: 1, Sessions: 2}})
	// mochi itself retains messages below $SYS; they have used the limit up.
	c, late := dialRaw(t, s), dialRaw(t, s)
	c.login(5, true, "c")
	c.send(publishPacket(5, 3, 1, "telemetry/a", "x"))
	gate.next(t).keep()
	c.want(ackPacket(puback, 1))
	late.login(4, true, "late")
	late.subscribe(4, "telemetry/#", 0)
	late.ping()
	c.send(publishPacket(5, 3, 2, "plain", "x"))
	if end := c.ends(); end[0] != 0xe0 || end[2] != 0x97 {
		t.Fatalf("got % x, want DISCONNECT 0x97", end)
	}
	third := dialRaw(t, s)
	third.send(connectPacket(5, true, "third"))
	if ack := third.ends(); ack[0] != 0x20 || ack[3] != 0x97 {
		t.Fatalf("got % x, want CONNACK 0x97", ack)
	}
}

func TestMochisLogHasNoPayloads(t *testing.T) {
	var log bytes.Buffer
	handler := quiet{textHandler(&log)}
	logger := newLogger(handler)
	logger.Warn("error processing packet", "pk", "secret-1", "client", "c")
	logger.With("packet", "secret-2", "kept", 1).WithGroup("g").Info("x", "will", "secret-3")
	if s := log.String(); strings.Contains(s, "secret") || strings.Contains(s, "WARN") || !strings.Contains(s, "client=c") || !strings.Contains(s, "kept=1") {
		t.Fatalf("the log says %s", s)
	}
}
