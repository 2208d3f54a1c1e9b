package mqttd

import (
	"testing"

	"millrace/telemetry"
)

func TestQoS2IsAppendedOnce(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		s, _ := start(t, Config{Gate: gate})
		c := dialRaw(t, s)
		c.login(version, false, "keeper")
		message := publishPacket(version, 4, 9, "telemetry/a", "1")
		again := publishPacket(version, 4|8, 9, "telemetry/a", "1")

		c.send(message, again) // while the append is under way
		m := gate.next(t)
		c.ping()
		gate.none(t)
		m.keep()
		c.want(ackPacket(pubrec, 9), ackPacket(pubrec, 9))
		c.send(message) // and behind it, DUP or not
		c.want(ackPacket(pubrec, 9))

		_ = c.Close() // and on the next connection of the session
		c = dialRaw(t, s)
		if !c.login(version, false, "keeper") {
			t.Fatal("the session was not there")
		}
		c.send(again)
		c.want(ackPacket(pubrec, 9))
		c.send(ackPacket(pubrel, 9))
		c.want(ackPacket(pubcomp, 9))
		gate.none(t)

		c.send(message) // after PUBREL it is another message
		gate.next(t).keep()
		c.want(ackPacket(pubrec, 9))

		c = dialRaw(t, s) // a clean session has forgotten it
		if c.login(version, true, "keeper") {
			t.Fatal("a clean session is present")
		}
		c.send(again)
		gate.next(t).keep()
		c.want(ackPacket(pubrec, 9))
	})
}

func TestAQoS2MessageWhoseAppendFailedIsAppendedAgain(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		s, _ := start(t, Config{Gate: gate})
		c := dialRaw(t, s)
		c.login(version, false, "keeper")
		c.send(publishPacket(version, 4, 9, "telemetry/a", "1"))
		gate.next(t).fail(telemetry.ErrUnavailable)
		c.ends()
		c = dialRaw(t, s)
		c.login(version, false, "keeper")
		c.send(publishPacket(version, 4|8, 9, "telemetry/a", "1"))
		gate.next(t).keep()
		c.want(ackPacket(pubrec, 9))
	})
}

func TestQoS2UnknownPubrelIsAnswered(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	old, now := dialRaw(t, s), dialRaw(t, s)
	old.login(4, true, "old")
	now.login(5, true, "now")
	old.send(ackPacket(pubrel, 5))
	old.want(ackPacket(pubcomp, 5))
	now.send(ackPacket(pubrel, 5))
	if ack := now.packet(); ack[0] != pubcomp || ack[4] != 0x92 {
		t.Fatalf("PUBCOMP % x, want reason 0x92", ack)
	}
	now.send(publishPacket(5, 4, 6, "telemetry/a", "1"), ackPacket(pubrel, 6))
	m := gate.next(t)
	if end := now.ends(); end[0] != 0xe0 || end[2] != 0x82 {
		t.Fatalf("PUBREL before PUBREC was answered % x", end)
	}
	m.keep()
}

func TestQoS1ResentWhileUnderWayIsAppendedOnce(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		duplicates := make(chan struct{}, 10)
		s, _ := start(t, Config{Gate: gate, Events: Events{Duplicate: func() { duplicates <- struct{}{} }}})
		c := dialRaw(t, s)
		c.login(version, false, "keeper")
		c.send(publishPacket(version, 2, 1, "telemetry/a", "1"), publishPacket(version, 2|8, 1, "telemetry/a", "1"))
		m := gate.next(t)
		c.ping()
		gate.none(t)
		<-duplicates

		again := dialRaw(t, s) // takes the session over while the append is under way
		again.login(version, false, "keeper")
		c.ends()
		again.send(publishPacket(version, 2|8, 1, "telemetry/a", "1"))
		again.ping()
		gate.none(t)
		<-duplicates
		m.keep()
		again.want(ackPacket(puback, 1))

		again.send(publishPacket(version, 2|8, 1, "telemetry/a", "1")) // nothing is under way: it may be lost
		gate.next(t).keep()
		again.want(ackPacket(puback, 1))
	})
}

func TestASessionBelongsToTheDeviceThatMadeIt(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate, Auth: tokens{}})
	owner := dialRaw(t, s)
	owner.send(loginPacket(5, "shared-id", "truck-7", "truck-7"))
	if ack := owner.packet(); ack[3] != 0 {
		t.Fatalf("CONNACK % x", ack)
	}
	thief := dialRaw(t, s)
	thief.send(loginPacket(5, "shared-id", "truck-8", "truck-8"))
	if ack := thief.ends(); ack[0] != 0x20 || ack[3] != 0x85 {
		t.Fatalf("CONNACK % x, want reason 0x85", ack)
	}
	owner.ping()
}

// loginPacket is a CONNECT with user and password.
func loginPacket(version byte, id, user, password string) string {
	properties := ""
	if version == 5 {
		properties = "\x00"
	}
	return pack(0x10, str("MQTT"), string([]byte{version, 0xc2, 0, 60}), properties, str(id), str(user), str(password))
}
