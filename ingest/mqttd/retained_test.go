package mqttd

import "testing"

// loginAs connects with a device's token, which tokens takes for its name.
func loginAs(r *raw, id, user string) {
	r.t.Helper()
	r.send(pack(0x10, str("MQTT"), string([]byte{4, 0xc2, 0, 60}), str(id), str(user), str(user)))
	if ack := r.packet(); ack[3] != 0 {
		r.t.Fatalf("CONNACK % x", ack)
	}
}

// A device must not take back what another has left retained.
func TestStrangersTakeNothingBack(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate, Auth: tokens{}})
	owner := dialRaw(t, s)
	loginAs(owner, "b", "truck-2")
	owner.send(publishPacket(4, 3, 1, "telemetry/truck-2", `{"a":1}`))
	gate.next(t).keep()
	owner.packet() // PUBACK

	stranger := dialRaw(t, s)
	loginAs(stranger, "a", "truck-1")
	stranger.send(publishPacket(4, 3, 1, "telemetry/truck-2", ``))
	asked := gate.next(t) // the gate refuses it, and keeps the dead letter
	if asked.Message.Device != "truck-2" || asked.Message.Publisher.Device != "truck-1" {
		t.Errorf("the gate was asked for %+v", asked.Message)
	}
	asked.keep()
	stranger.packet() // PUBACK

	owner.subscribe(4, "telemetry/truck-2", 0)
	if got := string(owner.packet()); len(got) == 0 || got[len(got)-1] != '}' {
		t.Errorf("the retained message is now %q", got)
	}
}
