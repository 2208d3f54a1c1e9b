package mqttd

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener within the process: in a bubble, its connections have the
// bubble's clock.
type pipes struct {
	net.Listener
	accepted chan net.Conn
	closed   chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return p.Listener.Close()
}

// bubble runs a scenario with a door and a clock of its own.
func bubble(t *testing.T, config Config, run func(t *testing.T, dial func() *raw)) {
	synctest.Test(t, func(t *testing.T) {
		config.Addr, config.Auth, config.Patterns = "127.0.0.1:0", tokens{}, testPatterns{}
		s, err := Listen(config)
		if err != nil {
			t.Fatal(err)
		}
		p := &pipes{Listener: s.listener, accepted: make(chan net.Conn), closed: make(chan struct{})}
		s.listener = p
		ended := make(chan error)
		go func() { ended <- s.Run(t.Context()) }()
		t.Cleanup(func() {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		run(t, func() *raw {
			client, server := net.Pipe()
			t.Cleanup(func() { _ = client.Close() })
			p.accepted <- server
			return &raw{t, client}
		})
	})
}

func TestConnectMustComeInTime(t *testing.T) {
	bubble(t, Config{Gate: newHandGate()}, func(t *testing.T, dial func() *raw) {
		c, began := dial(), time.Now()
		c.send("\x10\x20\x00")
		if end := c.ends(); end != "" || time.Since(began) != 10*time.Second {
			t.Fatalf("got % x after %v", end, time.Since(began))
		}
	})
}

func TestKeepalive(t *testing.T) {
	bubble(t, Config{Gate: newHandGate()}, func(t *testing.T, dial func() *raw) {
		c := dial()
		c.send(loginPacket(5, "c", "truck-7", "truck-7")) // keepalive 60 s
		c.packet()
		for range 10 {
			time.Sleep(59 * time.Second)
			c.ping()
		}
		began := time.Now()
		end := c.ends()
		if end[0] != 0xe0 || end[2] != 0x8d {
			t.Fatalf("got % x, want DISCONNECT 0x8d", end)
		}
		if silence := time.Since(began); silence < 90*time.Second || silence > 100*time.Second {
			t.Fatalf("closed after %v, want one and a half times the keepalive", silence)
		}
	})
}

func TestKeepaliveDoesNotCountWhatWeDoNotRead(t *testing.T) {
	gate := newHandGate()
	bubble(t, Config{Gate: gate, Limits: Limits{InFlight: 1}}, func(t *testing.T, dial func() *raw) {
		c := dial()
		c.send(loginPacket(4, "c", "truck-7", "truck-7"))
		c.packet()
		c.send(publishPacket(4, 2, 1, "telemetry/truck-7", "x"), publishPacket(4, 2, 2, "telemetry/truck-7", "x"))
		held := <-gate.calls
		time.Sleep(10 * time.Minute)
		held.keep()
		c.want(ackPacket(puback, 1))
		(<-gate.calls).keep()
		c.want(ackPacket(puback, 2))
		c.ping()
	})
}

func TestAClientThatDoesNotReadIsClosed(t *testing.T) {
	gate := newHandGate()
	bubble(t, Config{Gate: gate}, func(t *testing.T, dial func() *raw) {
		c := dial()
		c.send(loginPacket(4, "c", "truck-7", "truck-7"))
		c.packet()
		c.send(publishPacket(4, 2, 1, "telemetry/truck-7", "x"))
		(<-gate.calls).keep() // its acknowledgement finds nobody
		time.Sleep(31 * time.Second)
		if end := c.ends(); end != "" {
			t.Fatalf("got % x", end)
		}
	})
}

func TestADelayedWillIsPublishedWhenItIsDue(t *testing.T) {
	gate := newHandGate()
	bubble(t, Config{Gate: gate}, func(t *testing.T, dial func() *raw) {
		connect := pack(0x10, str("MQTT"), "\x05\xc4\x00\x3c", "\x05\x11\x00\x00\x0e\x10", str("c"),
			"\x05\x18\x00\x00\x00\x1e", str("telemetry/truck-7"), str("gone"), str("truck-7"), str("truck-7"))
		c := dial()
		c.send(connect)
		c.packet()
		_ = c.Close()
		time.Sleep(29 * time.Second)
		gate.none(t)
		c = dial() // it is back in time
		c.send(connect)
		c.packet()
		time.Sleep(2 * time.Second)
		gate.none(t)
		_ = c.Close()
		time.Sleep(31 * time.Second)
		will := <-gate.calls
		if will.payload() != "gone" || will.Device != "truck-7" || will.Publisher.Device != "truck-7" {
			t.Fatalf("the gate got %+v", will.Message)
		}
		will.keep()
	})
}

func TestASessionExpires(t *testing.T) {
	gate := newHandGate()
	bubble(t, Config{Gate: gate, Limits: Limits{Session: time.Minute}}, func(t *testing.T, dial func() *raw) {
		connect := pack(0x10, str("MQTT"), "\x04\xc0\x00\x3c", str("c"), str("truck-7"), str("truck-7"))
		for _, wait := range []time.Duration{30 * time.Second, 70 * time.Second} {
			c := dial()
			c.send(connect)
			if ack := c.packet(); ack[2] != 0 {
				t.Fatal("a session is present")
			}
			c.send(pack(0x82, "\x00\x01", str("#"), "\x00"))
			c.packet()
			_ = c.Close()
			time.Sleep(30 * time.Second)
			c = dial()
			c.send(connect)
			if ack := c.packet(); ack[2] != 1 {
				t.Fatal("the session is gone too early")
			}
			_ = c.Close()
			time.Sleep(70*time.Second + wait)
		}
	})
}
