package mqttd

import (
	"fmt"
	"strings"
	"testing"

	"millrace/ingest"
	"millrace/telemetry"
)

// subscribe to a filter and take the SUBACK; answers its code.
func (r *raw) subscribe(version byte, filter string, options byte) byte {
	r.t.Helper()
	properties := ""
	if version == 5 {
		properties = "\x00"
	}
	r.send(pack(0x82, "\x00\x63", properties, str(filter), string([]byte{options})))
	ack := r.packet()
	if ack[0] != 0x90 {
		r.t.Fatalf("SUBACK % x", ack)
	}
	return ack[len(ack)-1]
}

func TestTelemetryIsForwardedOnceItIsKept(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		s, _ := start(t, Config{Gate: gate})
		watcher, c := dialRaw(t, s), dialRaw(t, s)
		watcher.login(4, true, "watcher")
		watcher.subscribe(4, "telemetry/+", 1)
		c.login(version, true, "c")
		c.send(
			publishPacket(version, 0, 0, "telemetry/a", "0"),
			publishPacket(version, 2, 1, "telemetry/a", "1"),
			publishPacket(version, 4, 2, "telemetry/a", "2"),
			publishPacket(version, 2, 3, "telemetry/a", "3"),
			publishPacket(version, 2, 4, "telemetry/b/c", "4"), // nobody wants it
		)
		var calls []call
		for range 5 {
			calls = append(calls, gate.next(t))
		}
		watcher.ping()
		calls[0].keep()
		calls[1].keep()
		calls[2].keep()
		calls[3].refuse(telemetry.ReasonMalformed)
		calls[4].keep()
		for _, want := range []string{
			publishPacket(4, 0, 0, "telemetry/a", "0"),
			publishPacket(4, 2, 1, "telemetry/a", "1"), publishPacket(4, 2, 2, "telemetry/a", "2"),
		} {
			watcher.want(want)
		}
		watcher.ping() // the refused one is not forwarded
	})
}

func TestForwardedThoughThePublisherIsGone(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	watcher, c := dialRaw(t, s), dialRaw(t, s)
	watcher.login(4, true, "watcher")
	watcher.subscribe(4, "#", 0)
	c.login(4, true, "c")
	c.send(publishPacket(4, 0, 0, "telemetry/a", "x"), "\xe0\x00")
	m := gate.next(t)
	c.ends()
	m.keep()
	watcher.want(publishPacket(4, 0, 0, "telemetry/a", "x"))
}

func TestRetainedTelemetry(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	c := dialRaw(t, s)
	c.login(4, true, "c")
	c.send(publishPacket(4, 2|1, 1, "telemetry/a", "kept"))
	m := gate.next(t)
	early := dialRaw(t, s)
	early.login(4, true, "early")
	early.subscribe(4, "telemetry/a", 0)
	early.ping() // not in the log, so not there
	m.keep()
	c.want(ackPacket(puback, 1))
	early.want(publishPacket(4, 0, 0, "telemetry/a", "kept"))
	late := dialRaw(t, s)
	late.login(4, true, "late")
	late.subscribe(4, "telemetry/#", 0)
	late.want(publishPacket(4, 1, 0, "telemetry/a", "kept"))

	c.send(publishPacket(4, 2|1, 2, "telemetry/a", "")) // takes it back; says nothing of the device
	c.want(ackPacket(puback, 2))
	gate.none(t)
	none := dialRaw(t, s)
	none.login(4, true, "none")
	none.subscribe(4, "telemetry/#", 0)
	none.ping()
}

func TestPlainTopicsAreABroker(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		plain := make(chan struct{}, 10)
		s, _ := start(t, Config{Gate: gate, Events: Events{Plain: func() { plain <- struct{}{} }}})
		c := dialRaw(t, s)
		c.login(version, true, "c")
		c.subscribe(version, "chat/#", 2)
		c.send(publishPacket(version, 0, 0, "chat/x", "hello"))
		c.want(publishPacket(version, 0, 0, "chat/x", "hello"))
		<-plain
		gate.none(t)
	})
}

func TestNoLocalHoldsForTelemetry(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	c := dialRaw(t, s)
	c.login(5, true, "c")
	c.subscribe(5, "telemetry/#", 4)
	c.send(publishPacket(5, 2, 1, "telemetry/a", "x"))
	gate.next(t).keep()
	c.want(ackPacket(puback, 1))
	c.ping()
}

func TestTheDeviceOfMe(t *testing.T) {
	gate := newHandGate()
	open, _ := start(t, Config{Gate: gate})
	locked, _ := start(t, Config{Gate: gate, Auth: tokens{}})
	c := dialRaw(t, open)
	c.login(4, true, "sensor-1")
	c.send(publishPacket(4, 0, 0, "v1/devices/me/telemetry", "{}"))
	m := gate.next(t)
	if m.keep(); m.Device != "sensor-1" {
		t.Fatalf("the device is %q", m.Device)
	}
	for _, s := range []*Server{open, locked} {
		c = dialRaw(t, s)
		c.send(loginPacket(4, "anything at all", "truck-7", "truck-7"))
		c.packet()
		c.send(publishPacket(4, 0, 0, "v1/devices/me/telemetry", "{}"))
		if m = gate.next(t); m.Device != "truck-7" {
			t.Fatalf("the device is %q", m.Device)
		}
		m.keep()
	}
}

func TestLogins(t *testing.T) {
	s, _ := start(t, Config{Gate: newHandGate(), Auth: tokens{}})
	for _, login := range []struct {
		user     string
		version  byte
		password string
		code     byte
	}{
		{"truck-7", 4, "truck-7", 0},
		{"truck-7", 5, "truck-7", 0},
		{"truck-7", 4, "wrong", 4},
		{"truck-7", 5, "wrong", 0x86},
		{"away", 4, "x", 3},
		{"away", 5, "x", 0x88},
	} {
		c := dialRaw(t, s)
		c.send(loginPacket(login.version, "c", login.user, login.password))
		if ack := c.packet(); ack[0] != 0x20 || ack[3] != login.code {
			t.Fatalf("%+v: CONNACK % x", login, ack)
		}
		if login.code != 0 {
			if rest := c.ends(); rest != "" {
				t.Fatalf("behind the CONNACK came % x", rest)
			}
		}
	}
}

func TestADeviceSeesItsOwnTelemetryOnly(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate, Auth: tokens{}, Patterns: defaultPatterns(t)})
	a, b := dialRaw(t, s), dialRaw(t, s)
	a.send(loginPacket(5, "a", "a", "a"))
	a.packet()
	b.send(loginPacket(4, "b", "b", "b"))
	b.packet()
	for filter, code := range map[string]byte{
		"telemetry/a": 0, "telemetry/a/#": 0, "#": 0, "chat/+": 0, "$share/g/telemetry/a": 0,
		"telemetry/b": 0x87, "telemetry/#": 0x87, "telemetry/+/speed": 0x87, "$share/g/telemetry/b": 0x87,
		"v1/devices/me/telemetry": 0x87, "$SYS/#": 0x87,
	} {
		if got := a.subscribe(5, filter, 0); got != code {
			t.Errorf("%s was granted %#x, want %#x", filter, got, code)
		}
		if code == 0 && filter != "#" {
			a.send(pack(0xa2, "\x00\x05\x00", str(filter)))
			a.packet()
		}
	}
	b.send(publishPacket(4, 2, 1, "telemetry/b", "1"))
	gate.next(t).keep()
	b.want(ackPacket(puback, 1))
	b.send(publishPacket(4, 2, 2, "v1/devices/me/telemetry", "2"))
	gate.next(t).keep()
	b.want(ackPacket(puback, 2))
	a.send(publishPacket(5, 2, 1, "telemetry/a", "3"))
	gate.next(t).keep()
	got := a.packet() + a.packet()
	if own := publishPacket(5, 0, 0, "telemetry/a", "3"); !strings.Contains(got, own) || len(got) != len(own)+4 {
		t.Fatalf("a got % x", got)
	}
}

func TestDisconnectClosesADevicesConnections(t *testing.T) {
	s, _ := start(t, Config{Gate: newHandGate(), Auth: tokens{}})
	a, b := dialRaw(t, s), dialRaw(t, s)
	a.send(loginPacket(5, "a", "a", "a"))
	a.packet()
	b.send(loginPacket(5, "b", "b", "b"))
	b.packet()
	s.Disconnect("a")
	if end := a.ends(); end[0] != 0xe0 || end[2] != 0x87 {
		t.Fatalf("got % x, want DISCONNECT 0x87", end)
	}
	b.ping()
}

func TestWillsPassTheGate(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	watcher := dialRaw(t, s)
	watcher.login(4, true, "watcher")
	watcher.subscribe(4, "#", 0)
	connect := func(topic string) string {
		return pack(0x10, str("MQTT"), "\x04\x2e\x00\x3c", str("c"), str(topic), str(`{"state":"gone"}`)) // QoS 1, retained
	}
	c := dialRaw(t, s)
	c.send(connect("telemetry/truck-7"))
	c.packet()
	_ = c.Close()
	will := gate.next(t)
	if will.Device != "truck-7" || will.payload() != `{"state":"gone"}` || will.Client != "c" {
		t.Fatalf("the gate got %+v", will.Message)
	}
	watcher.ping()
	will.done(ingest.Outcome{Accepted: 1})
	watcher.want(publishPacket(4, 0, 0, "telemetry/truck-7", `{"state":"gone"}`))

	c = dialRaw(t, s) // who says goodbye leaves none
	c.send(connect("telemetry/truck-7"), "")
	c.packet()
	c.send("\xe0\x00")
	c.ends()

	c = dialRaw(t, s) // elsewhere it is mochi's
	c.send(connect("wills/c"))
	c.packet()
	_ = c.Close()
	watcher.want(publishPacket(4, 0, 0, "wills/c", `{"state":"gone"}`))
	gate.none(t)
}

func TestQoS1AcrossManyConnectionsLosesNothing(t *testing.T) {
	gate := newQuickGate(t)
	s, _ := start(t, Config{Gate: gate})
	done := make(chan error)
	const clients, messages = 8, 500
	for i := range clients {
		c := dialRaw(t, s)
		c.login(versions[i%3], true, fmt.Sprint("c", i))
		go func() {
			for id := range uint16(messages) {
				if _, err := c.Write([]byte(publishPacket(versions[i%3], 2, id+1, "telemetry/a", "x"))); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		go func() {
			for id := range uint16(messages) {
				if got := c.packet(); got != ackPacket(puback, id+1) {
					done <- fmt.Errorf("got % x for %d", got, id+1)
					return
				}
			}
			done <- nil
		}()
	}
	for range 2 * clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
