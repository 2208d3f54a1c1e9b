package bridge

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"millrace/ingest"
)

// testGate keeps what it is handed, and answers at once, or when told to.
type testGate struct {
	mu      sync.Mutex
	hold    bool // keep done functions instead of calling them
	fail    error
	got     []ingest.Message
	waiting []func(ingest.Outcome)
}

func (g *testGate) Accept(_ context.Context, m ingest.Message, done func(ingest.Outcome)) {
	m.Payload = slices.Clone(m.Payload)
	g.mu.Lock()
	g.got = append(g.got, m)
	hold, fail := g.hold, g.fail
	if hold {
		g.waiting = append(g.waiting, done)
	}
	g.mu.Unlock()
	if !hold {
		done(ingest.Outcome{Accepted: 1, Err: fail})
	}
}

func (g *testGate) messages() []ingest.Message {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.got)
}

func (g *testGate) payloads() []string {
	var list []string
	for _, m := range g.messages() {
		list = append(list, string(m.Payload))
	}
	return list
}

// release answers what waits, in the given order of indexes or all.
func (g *testGate) release(o ingest.Outcome) {
	g.mu.Lock()
	waiting := g.waiting
	g.waiting = nil
	g.mu.Unlock()
	for _, done := range slices.Backward(waiting) { // out of order, as partitions are
		done(o)
	}
}

// set changes the gate's ways.
func (g *testGate) set(hold bool, fail error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold, g.fail = hold, fail
}

// running is a bridge at work.
type running struct {
	cancel context.CancelFunc
	over   chan error
	once   sync.Once
}

func start(t testing.TB, b *Bridge) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, over: make(chan error, 1)}
	go func() {
		err := b.Run(ctx)
		if ctx.Err() == nil {
			t.Errorf("Run ended by itself: %v", err)
		}
		r.over <- err
	}()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop cancels the bridge and waits for its end; more than once is fine.
func (r *running) stop(t testing.TB) {
	t.Helper()
	r.once.Do(func() {
		r.cancel()
		select {
		case err := <-r.over:
			if err != nil {
				t.Errorf("Run ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run does not end")
		}
	})
}

// publisher connects a client to the broker for the test's life.
func publisher(t testing.TB, address string) mqtt.Client {
	t.Helper()
	options := mqtt.NewClientOptions().AddBroker("mqtt://" + address).SetClientID("publisher")
	options.SetAutoReconnect(false).SetConnectTimeout(5 * time.Second)
	client := mqtt.NewClient(options)
	settle(t, client.Connect())
	t.Cleanup(func() { client.Disconnect(250) })
	return client
}

func publish(t testing.TB, client mqtt.Client, topic string, payloads ...string) {
	t.Helper()
	for _, payload := range payloads {
		settle(t, client.Publish(topic, 1, false, payload))
	}
}

func settle(t testing.TB, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(10 * time.Second) {
		t.Fatal("no answer from the broker")
	}
	if token.Error() != nil {
		t.Fatal(token.Error())
	}
}
