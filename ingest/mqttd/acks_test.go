package mqttd

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/telemetry"
)

var versions = []byte{3, 4, 5}

// eachVersion runs a scenario for MQTT 3.1, 3.1.1 and 5.
func eachVersion(t *testing.T, run func(t *testing.T, version byte)) {
	for _, version := range versions {
		t.Run(fmt.Sprintf("level%d", version), func(t *testing.T) { run(t, version) })
	}
}

func TestAcknowledgedAfterTheAppendOnly(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		s, _ := start(t, Config{Gate: gate})
		c := dialRaw(t, s)
		c.login(version, true, "c")

		c.send(publishPacket(version, 2, 1, "telemetry/truck-7", `{"speed":61}`))
		m := gate.next(t)
		if m.Device != "truck-7" || m.payload() != `{"speed":61}` || m.Client != "c" || m.Source != "mqtt" || !m.Wait {
			t.Fatalf("the gate got %+v", m.Message)
		}
		c.ping() // nothing but the answer to this: no acknowledgement has left
		m.keep()
		c.want(ackPacket(puback, 1))

		c.send(publishPacket(version, 4, 2, "telemetry/truck-7/speed", "61"))
		m = gate.next(t)
		if m.Metric != "speed" || !m.Wait {
			t.Fatalf("the gate got %+v", m.Message)
		}
		c.ping()
		m.keep()
		c.want(ackPacket(pubrec, 2))
		c.send(ackPacket(pubrel, 2))
		c.want(ackPacket(pubcomp, 2))

		c.send(publishPacket(version, 0, 0, "telemetry/truck-7", "{}"))
		if m = gate.next(t); m.Wait {
			t.Fatal("QoS 0 waits for room")
		}
		m.keep()
		c.ping()
	})
}

func TestAcknowledgementsKeepTheOrderOfReceipt(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		var mu sync.Mutex
		var writes []int
		s, _ := start(t, Config{Gate: gate, Events: Events{Acknowledged: func(n int, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			writes = append(writes, n)
		}}})
		c := dialRaw(t, s)
		c.login(version, true, "c")
		c.send(
			publishPacket(version, 2, 1, "telemetry/a", "1"),
			publishPacket(version, 4, 2, "telemetry/a", "2"),
			publishPacket(version, 2, 3, "telemetry/a", "3"),
			publishPacket(version, 2, 4, "telemetry/a", "4"),
		)
		calls := []call{gate.next(t), gate.next(t), gate.next(t), gate.next(t)}
		for i, m := range calls {
			if m.payload() != fmt.Sprint(i+1) {
				t.Fatalf("message %d came as %q", i+1, m.payload())
			}
		}
		calls[2].keep()
		calls[1].keep()
		c.ping() // the first is not done: nothing may leave
		calls[0].keep()
		c.want(ackPacket(puback, 1), ackPacket(pubrec, 2), ackPacket(puback, 3))
		c.ping()
		calls[3].keep()
		c.want(ackPacket(puback, 4))
		c.ping()
		mu.Lock()
		defer mu.Unlock()
		if len(writes) == 0 || writes[0] != 3 {
			t.Fatalf("acknowledgements left in writes of %v, want the first three in one", writes)
		}
	})
}

func TestAFailedAppendIsNotAcknowledged(t *testing.T) {
	failures := []struct {
		err  error
		code byte
	}{
		{telemetry.ErrOverloaded, 0x97},
		{telemetry.ErrClosed, 0x8b},
		{errors.New("the disk is full"), 0x89},
	}
	for _, failure := range failures {
		for qos := byte(1); qos <= 2; qos++ {
			eachVersion(t, func(t *testing.T, version byte) {
				gate := newHandGate()
				s, _ := start(t, Config{Gate: gate})
				c := dialRaw(t, s)
				c.login(version, true, "c")
				c.send(
					publishPacket(version, 2, 1, "telemetry/a", "1"),
					publishPacket(version, qos<<1, 2, "telemetry/a", "2"),
					publishPacket(version, 2, 3, "telemetry/a", "3"),
				)
				one, two, three := gate.next(t), gate.next(t), gate.next(t)
				two.fail(fmt.Errorf("stream: %w", failure.err))
				three.keep()
				c.ping()
				one.keep()
				c.want(ackPacket(puback, 1))
				rest := c.ends()
				if version < 5 && rest != "" {
					t.Fatalf("behind the failure came % x", rest)
				}
				if version == 5 && (rest[0] != 0xe0 || rest[2] != failure.code) {
					t.Fatalf("behind the failure came % x, want DISCONNECT %#x", rest, failure.code)
				}
			})
		}
	}
}

func TestARefusedMessageIsAcknowledgedWithItsReason(t *testing.T) {
	codes := map[telemetry.Reason]byte{
		telemetry.ReasonMalformed: 0x99, telemetry.ReasonTime: 0x99, telemetry.ReasonDevice: 0x99,
		telemetry.ReasonDenied: 0x87, telemetry.ReasonLimit: 0x97, telemetry.ReasonTopic: 0x90,
	}
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	old, now := dialRaw(t, s), dialRaw(t, s)
	old.login(4, true, "old")
	now.login(5, true, "now")
	for reason, code := range codes {
		for qos, kind := range map[byte]byte{1: puback, 2: pubrec} {
			old.send(publishPacket(4, qos<<1, 7, "telemetry/a", "x"))
			gate.next(t).refuse(reason)
			old.want(ackPacket(kind, 7))
			now.send(publishPacket(5, qos<<1, 7, "telemetry/a", "x"))
			gate.next(t).refuse(reason)
			text := "refused by the test"
			now.want(pack(kind, "\x00\x07", string([]byte{code, byte(3 + len(text)), 0x1f}), str(text)))
			if qos == 2 { // for MQTT 5 the exchange is over, for 3.1.1 it is not
				old.send(ackPacket(pubrel, 7))
				old.want(ackPacket(pubcomp, 7))
			}
		}
	}
	now.send(publishPacket(5, 2, 8, "telemetry/a", "[1,2]"))
	gate.next(t).done(ingest.Outcome{Accepted: 1, Refused: []ingest.Refused{{Index: 1, Err: telemetry.Refuse(telemetry.ReasonTime, "late")}}})
	now.want(ackPacket(puback, 8))
}

func TestPlainAcknowledgementsWaitTheirTurn(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate := newHandGate()
		s, _ := start(t, Config{Gate: gate})
		c := dialRaw(t, s)
		c.login(version, true, "c")
		c.send(
			publishPacket(version, 2, 1, "telemetry/a", "1"),
			publishPacket(version, 2, 2, "chat", "2"),
			publishPacket(version, 4, 3, "chat", "3"),
			publishPacket(version, 2, 4, "telemetry/a", "4"),
		)
		one, four := gate.next(t), gate.next(t)
		four.keep()
		c.ping()
		one.keep()
		c.want(ackPacket(puback, 1), ackPacket(puback, 2), ackPacket(pubrec, 3), ackPacket(puback, 4))
		c.send(ackPacket(pubrel, 3))
		c.want(ackPacket(pubcomp, 3))
	})
}

func TestASlowLogHoldsOneClientOnly(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	slow, fast := dialRaw(t, s), dialRaw(t, s)
	slow.login(4, true, "slow")
	fast.login(4, true, "fast")
	slow.send(publishPacket(4, 2, 1, "telemetry/slow", "1"))
	held := gate.next(t)
	fast.send(publishPacket(4, 2, 1, "telemetry/fast", "1"))
	gate.next(t).keep()
	fast.want(ackPacket(puback, 1))
	held.keep()
	slow.want(ackPacket(puback, 1))
}
