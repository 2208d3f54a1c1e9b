package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/internal/testkit"
)

func newBridge(t *testing.T, address string, gate Gate, events Events) *Bridge {
	t.Helper()
	b, err := New(Config{
		From: address, Topics: []string{"sensors/+/data"}, DeviceFrom: []string{"sensors/{device}/data"},
		QoS: 1, ClientID: "bridge", Gate: gate, Events: events,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// connected answers events and a channel that tells of each connection.
func connected() (Events, chan bool) {
	c := make(chan bool, 100)
	return Events{Connected: func(resumed bool) { c <- resumed }}, c
}

func TestMessagesReachTheGateInOrder(t *testing.T) {
	broker := testkit.Mosquitto(t)
	events, up := connected()
	gate := &testGate{}
	start(t, newBridge(t, "mqtt://"+broker.Addr(), gate, events))
	<-up
	client := publisher(t, broker.Addr())
	publish(t, client, "sensors/a/data", "1", "2", "3")
	testkit.Wait(t, "three messages", func() bool { return len(gate.messages()) == 3 })
	if got := gate.payloads(); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("payloads are %q", got)
	}
	m := gate.messages()[0]
	if m.Device != "a" || m.Source != "bridge" || m.Topic != "sensors/a/data" || !m.Wait || !m.Publisher.Open ||
		m.Client != broker.Addr() || m.Refused != nil {
		t.Errorf("message is %+v", m)
	}
}

// The other broker gets no acknowledgement before the log has acknowledged: a
// bridge that ends before gets the message again, and after it does not.
func TestNoAcknowledgementBeforeTheLog(t *testing.T) {
	broker := testkit.Mosquitto(t)
	events, up := connected()
	gate := &testGate{hold: true}
	crash := newBridge(t, broker.Addr(), gate, events)
	first, err := crash.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-up
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", "1", "2", "3")
	testkit.Wait(t, "three messages taken", func() bool {
		first.intake.mu.Lock()
		defer first.intake.mu.Unlock()
		return len(first.intake.items) == 3
	})
	first.client.Disconnect(0) // as kill -9: without any acknowledgement

	second := start(t, newBridge(t, broker.Addr(), gate, events))
	if resumed := <-up; !resumed {
		t.Error("the broker has not kept the session")
	}
	testkit.Wait(t, "the three again", func() bool { return len(gate.messages()) == 3 })
	gate.release(ingest.Outcome{Accepted: 1})
	second.stop(t)

	gate.set(false, nil)
	start(t, newBridge(t, broker.Addr(), gate, events))
	<-up
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", "4")
	testkit.Wait(t, "the fourth", func() bool { return slices.Contains(gate.payloads(), "4") })
	if got := gate.payloads(); !slices.Equal(got, []string{"1", "2", "3", "4"}) {
		t.Errorf("acknowledged messages came again: %q", got)
	}
}

// What the log does not take is not acknowledged: the connection ends, and it and
// all behind it come again in order.
func TestAFailedAppendComesAgain(t *testing.T) {
	broker := testkit.Mosquitto(t)
	events, up := connected()
	var failures atomic.Int64
	events.Failed = func(error) { failures.Add(1) }
	gate := &testGate{fail: errors.New("the log is away")}
	start(t, newBridge(t, broker.Addr(), gate, events))
	<-up
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", "1", "2", "3")
	<-up // it has come again, at least once
	gate.set(false, nil)
	testkit.Wait(t, "the messages again", func() bool {
		got := gate.payloads()
		return len(got) > 3 && slices.Equal(got[len(got)-3:], []string{"1", "2", "3"})
	})
	if failures.Load() == 0 {
		t.Error("nobody was told of the failure")
	}
}

func TestAnOutsideTopicIsADeadLetter(t *testing.T) {
	broker := testkit.Mosquitto(t)
	events, up := connected()
	gate := &testGate{}
	b, err := New(Config{
		From: broker.Addr(), Topics: []string{"#", "other/#"}, DeviceFrom: []string{"sensors/{device}/data"},
		QoS: 2, Gate: gate, Events: events,
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)
	<-up
	publish(t, publisher(t, broker.Addr()), "other/place", "x")
	testkit.Wait(t, "the message", func() bool { return len(gate.messages()) > 0 })
	m := gate.messages()[0]
	if m.Refused == nil || m.Refused.Reason != "topic" || string(m.Payload) != "x" {
		t.Errorf("message is %+v", m)
	}
}

// A broker that goes away and comes back: the bridge goes on, and what its
// persistent session has kept arrives.
func TestTheBrokerComesBack(t *testing.T) {
	broker := testkit.Mosquitto(t)
	events, up := connected()
	gate := &testGate{}
	start(t, newBridge(t, broker.Addr(), gate, events))
	<-up
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", "1")
	testkit.Wait(t, "the first message", func() bool { return len(gate.messages()) == 1 })
	broker.Shutdown()
	broker.Start()
	if resumed := <-up; !resumed {
		t.Error("the broker has not kept the session")
	}
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", "2")
	testkit.Wait(t, "the second message", func() bool { return len(gate.messages()) == 2 })
}

// More than the bridge may hold: it acknowledges what it has and takes the rest
// on the next connection, in order, none missing.
func TestMoreThanThereIsRoomFor(t *testing.T) {
	broker := testkit.Mosquitto(t, "max_inflight_messages 0", "max_queued_messages 0")
	events, up := connected()
	gate := &testGate{hold: true}
	b := newBridge(t, broker.Addr(), gate, events)
	b.limits = limits{messages: 10, bytes: 1 << 20}
	start(t, b)
	<-up
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprint(i))
	}
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", want...)
	testkit.Wait(t, "all messages", func() bool {
		gate.release(ingest.Outcome{Accepted: 1})
		return len(gate.messages()) >= 25
	})
	gate.set(false, nil)
	gate.release(ingest.Outcome{Accepted: 1})
	if got := gate.payloads(); !slices.Equal(got, want) {
		t.Errorf("the gate got %q", got)
	}
}

// What the log has acknowledged while the bridge stops is acknowledged to the
// other broker as well.
func TestStoppingWaitsForTheLog(t *testing.T) {
	broker := testkit.Mosquitto(t)
	events, up := connected()
	var acknowledged atomic.Int64
	events.Acknowledged = func(n int) { acknowledged.Add(int64(n)) }
	gate := &testGate{hold: true}
	r := start(t, newBridge(t, broker.Addr(), gate, events))
	<-up
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", "1", "2")
	testkit.Wait(t, "two messages", func() bool { return len(gate.messages()) == 2 })
	r.cancel()
	gate.release(ingest.Outcome{Accepted: 1})
	r.stop(t)
	if acknowledged.Load() != 2 {
		t.Errorf("%d of 2 messages were acknowledged before the end", acknowledged.Load())
	}
}

// fullGate has no room until ctx is done.
type fullGate struct{ asked chan struct{} }

func (g fullGate) Accept(ctx context.Context, _ ingest.Message, done func(ingest.Outcome)) {
	g.asked <- struct{}{}
	<-ctx.Done()
	done(ingest.Outcome{Err: ctx.Err()})
}

// A log without room does not hold up the end, and what it did not take comes
// again.
func TestALogWithoutRoomDoesNotHoldTheEnd(t *testing.T) {
	broker := testkit.Mosquitto(t)
	events, up := connected()
	full := fullGate{make(chan struct{}, 10)}
	b := newBridge(t, broker.Addr(), full, events)
	b.drain = 20 * time.Millisecond
	r := start(t, b)
	<-up
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", "1", "2")
	<-full.asked
	r.stop(t)
	gate := &testGate{}
	start(t, newBridge(t, broker.Addr(), gate, events))
	testkit.Wait(t, "both messages again", func() bool { return slices.Equal(gate.payloads(), []string{"1", "2"}) })
}

func TestThroughWebSocket(t *testing.T) {
	port := testkit.FreePort(t)
	broker := testkit.Mosquitto(t, fmt.Sprintf("listener %d 127.0.0.1", port), "protocol websockets")
	events, up := connected()
	gate := &testGate{}
	testkit.Wait(t, "mosquitto's second listener", func() bool {
		conn, err := net.Dial("tcp", testkit.Loopback(port))
		return err == nil && conn.Close() == nil
	})
	start(t, newBridge(t, "ws://"+testkit.Loopback(port), gate, events))
	testkit.Wait(t, "the connection", func() bool { return len(up) > 0 })
	publish(t, publisher(t, broker.Addr()), "sensors/a/data", "1")
	testkit.Wait(t, "the message", func() bool { return len(gate.messages()) == 1 })
}

func TestQoS0WithoutRoomIsCounted(t *testing.T) {
	broker := testkit.Mosquitto(t)
	events, up := connected()
	var dropped atomic.Int64
	events.Dropped = func(n int) { dropped.Add(int64(n)) }
	gate := &testGate{fail: errors.New("no room")}
	start(t, newBridge(t, broker.Addr(), gate, events))
	<-up
	client := publisher(t, broker.Addr())
	settle(t, client.Publish("sensors/a/data", 0, false, "x"))
	testkit.Wait(t, "the message to be dropped", func() bool { return dropped.Load() == 1 })
	if len(up) > 0 {
		t.Error("a dropped QoS 0 message ended the connection")
	}
}

func TestBadConfig(t *testing.T) {
	f := func(config Config, want string) {
		t.Helper()
		_, err := New(config)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	gate := &testGate{}
	f(Config{}, "give its address")
	f(Config{From: "http://u:secret@x"}, "u:xxxxx@x: scheme \"http\"")
	f(Config{From: "mqtt://u:secret@x:y"}, "not like mqtt://")
	f(Config{From: "x"}, "no topic")
	f(Config{From: "x", Topics: []string{"a/#/b"}}, "# must be")
	f(Config{From: "x", Topics: []string{"a/b+"}}, "+ a whole level")
	f(Config{From: "x", Topics: []string{"a"}, QoS: 3}, "QoS 3")
	f(Config{From: "x", Topics: []string{"a"}}, "no gate")
	f(Config{From: "x", Topics: []string{"a"}, Gate: gate, DeviceFrom: []string{"{nobody}"}}, "bridge: ")
}

func TestAnUnreachableBrokerIsAnError(t *testing.T) {
	b := newBridge(t, testkit.Loopback(testkit.FreePort(t)), &testGate{}, Events{})
	err := b.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "check that a broker listens there") {
		t.Errorf("error is %v", err)
	}
}

// BenchmarkBridge: messages a second from a mosquitto that limits nothing
// through a gate that answers at once.
func BenchmarkBridge(b *testing.B) {
	broker := testkit.Mosquitto(b, "max_inflight_messages 0", "max_queued_messages 0", "persistence false")
	up, all := make(chan bool, 1), make(chan struct{})
	var got atomic.Int64
	gate := &testGate{}
	bridge, err := New(Config{
		From: broker.Addr(), Topics: []string{"sensors/+/data"}, QoS: 1, Gate: gate,
		DeviceFrom: []string{"sensors/{device}/data"},
		Events: Events{
			Connected: func(bool) { up <- true },
			Acknowledged: func(n int) {
				if got.Add(int64(n)) == int64(b.N) {
					close(all)
				}
			},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	start(b, bridge)
	<-up
	client := publisher(b, broker.Addr())
	payload := `{"time":"2026-11-21T22:00:00Z","temperature":21.5}`
	b.ResetTimer()
	for range b.N {
		client.Publish("sensors/a/data", 1, false, payload)
	}
	<-all
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
