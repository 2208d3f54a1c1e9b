package mqttd

import (
	"testing"
	"time"
)

func TestStopWaitsForAppendsAndAcknowledges(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		s, stop := start(t, Config{Gate: gate})
		c, idle := dialRaw(t, s), dialRaw(t, s)
		c.login(version, true, "c")
		idle.login(version, true, "idle")
		c.send(publishPacket(version, 2, 1, "telemetry/a", "1"), publishPacket(version, 4, 2, "telemetry/a", "2"))
		one, two := gate.next(t), gate.next(t)
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		if end := idle.ends(); version == 5 && (end[0] != 0xe0 || end[2] != 0x8b) {
			t.Fatalf("the idle client got % x, want DISCONNECT 0x8b", end)
		}
		c.send(publishPacket(version, 2, 3, "telemetry/a", "3")) // too late
		select {
		case <-stopped:
			t.Fatal("stopped with an append under way")
		default:
		}
		two.keep()
		one.keep()
		c.want(ackPacket(puback, 1), ackPacket(pubrec, 2))
		c.ends()
		<-stopped
		gate.none(t)
	})
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	gate := newHandGate()
	s, stop := start(t, Config{Gate: gate, Limits: Limits{Drain: 50 * time.Millisecond, InFlight: 1}})
	c := dialRaw(t, s)
	c.login(4, true, "c")
	c.send(publishPacket(4, 2, 1, "telemetry/a", "1"), publishPacket(4, 2, 2, "telemetry/a", "2"))
	gate.next(t) // and nothing becomes of it
	stop()
	if end := c.ends(); end != "" {
		t.Fatalf("got % x", end)
	}
}
