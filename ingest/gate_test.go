package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/devices"
	"millrace/telemetry"
	"millrace/telemetry/format"
)

func TestAcceptReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog()
		g := NewGate(Config{Appender: log})
		o := accept(t, g, message("truck-7", `{"speed":61.2,"lat":52.1}`))
		if o.Accepted != 1 || o.Refused != nil || o.Err != nil {
			t.Fatalf("%+v", o)
		}
		e := log.entries()[0]
		// A bubble's clock stands at 2000-01-01.
		want := `{"device":"truck-7","time":"2000-01-01T00:00:00.000000Z","values":{"lat":52.1,"speed":61.2}}`
		if string(e.Value) != want || e.Device != "truck-7" || !e.Received.Equal(time.Now()) || e.Dead != nil {
			t.Errorf("%s %+v", e.Value, e)
		}
	})
}

func TestMissingTimesStrictlyIncrease(t *testing.T) {
	log := newFakeLog()
	g := NewGate(Config{Appender: log})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 250 {
				accept(t, g, message("a", `[{"x":1},{"x":2}]`))
			}
		})
	}
	wg.Wait()
	times := map[string]bool{}
	for _, text := range log.readings() {
		var at string
		if _, rest, ok := strings.Cut(text, `"time":"`); ok {
			at = rest[:27]
		}
		if times[at] {
			t.Fatalf("%s stands twice", at)
		}
		times[at] = true
	}
	if len(times) != 2000 {
		t.Errorf("%d times", len(times))
	}
}

func TestClock(t *testing.T) {
	var c clock
	at := time.UnixMicro(1_000_000_000)
	f := func(now time.Time, want time.Time) {
		t.Helper()
		if got := c.next(now); !got.Equal(want) {
			t.Errorf("next(%v) = %v, want %v", now.UnixMicro(), got.UnixMicro(), want.UnixMicro())
		}
	}
	f(at, at)
	f(at, at.Add(time.Microsecond))
	f(at.Add(time.Second), at.Add(time.Second))
	f(at, at.Add(time.Second+time.Microsecond)) // a small step back
	f(at.Add(-time.Hour), at.Add(-time.Hour))   // the clock was set back
}

// TestRefused: what is refused is kept byte for byte with its reason, and the
// rest of the message is accepted.
func TestRefused(t *testing.T) {
	open := devices.Principal{Open: true}
	f := func(m Message, accepted int, dead ...string) {
		t.Helper()
		log := newFakeLog()
		g := NewGate(Config{Appender: log, Limits: Limits{PayloadBytes: 200, ItemsPerMessage: 4}})
		payload := string(m.Payload)
		o := accept(t, g, m)
		if o.Err != nil || o.Accepted != accepted || len(log.readings()) != accepted || !slices.Equal(log.dead(), dead) {
			t.Errorf("%s: %+v\ndead %q\nwant %q", payload, o, log.dead(), dead)
		}
		for _, e := range log.entries() {
			if d := e.Dead; d != nil && (d.Source != m.Source || d.Topic != m.Topic || d.Client != m.Client || d.Detail == "") {
				t.Errorf("%+v", d)
			}
		}
	}
	m := func(device, payload string) Message { return message(device, payload) }
	f(m("a", `{"x":`), 0, `malformed {"x":`)
	f(m("a", ``), 0, `malformed `)
	f(m("a", `{"x":1,"ts":5}`), 0, `time {"x":1,"ts":5}`)
	f(m("a b", `{"x":1}`), 0, `device {"x":1}`)
	f(m("", `{"x":1}`), 0, `device {"x":1}`)
	f(m("a", `{"device":"b","x":1}`), 0, `device {"device":"b","x":1}`)
	f(m("a", `{"device":"a","x":1}`), 1)
	f(m("", `[{"device":"a","x":1}, {"x":2}, {"device":"é","x":1}]`), 1, `device {"x":2}`, `device {"device":"é","x":1}`)
	f(m("a", `[{"x":1},{"x":2},3]`), 2, `malformed 3`)
	f(m("a", `[{"x":1},{"x":2}`), 0, `malformed [{"x":1},{"x":2}`)
	f(m("a", `[1,{"x":2},3,4,5]`), 0, `limit [1,{"x":2},3,4,5]`)
	f(m("a", `[]`), 0)
	long := `{"x":"` + strings.Repeat("y", 200) + `"}`
	f(m("a", long), 0, `limit `+long)
	f(Message{Form: format.NDJSON, Publisher: open, Device: "a", Payload: []byte("{\"x\":1}\nno\n{\"x\":2}\n")}, 2, `malformed no`)
	f(Message{Form: format.Value, Publisher: open, Device: "a", Metric: "m", Payload: []byte("21.5")}, 1)
	pack := `[{"bn":"a:","n":"x","v":1},{"n":"y"},{"n":"z"},{"n":"z","v":2}]`
	f(Message{Form: format.SenML, Publisher: open, Payload: []byte(pack)}, 2, "malformed "+pack) // once, for two items
	f(Message{Publisher: devices.Principal{Device: "a"}, Device: "b", Payload: []byte(`{"x":1}`)}, 0, `denied {"x":1}`)
	f(Message{Publisher: devices.Principal{Device: "a"}, Payload: []byte(`[{"x":1},{"device":"b","x":1}]`)}, 1, `denied {"device":"b","x":1}`)
	wrong := m("a", `{"x":1}`)
	wrong.Refused = telemetry.Refuse(telemetry.ReasonTopic, "wrong topic")
	f(wrong, 0, `topic {"x":1}`)
}

func TestOutcomeListsRefusals(t *testing.T) {
	log := newFakeLog()
	g := NewGate(Config{Appender: log, Limits: Limits{Refusals: 2}})
	o := accept(t, g, message("a", `[1,{"x":1},2,3,4]`))
	if o.Accepted != 1 || len(o.Refused) != 2 || o.Refused[1].Index != 2 || o.Omitted != 2 || len(log.dead()) != 4 {
		t.Errorf("%+v %q", o, log.dead())
	}
}

// TestLargeDeadLetterIsKeptInParts: its parts, joined, are the bytes that came.
func TestLargeDeadLetterIsKeptInParts(t *testing.T) {
	log := newFakeLog()
	g := NewGate(Config{Appender: log})
	payload := bytes.Repeat([]byte("0123456789abcde\n"), maxDead/8) // two parts and no rest
	payload = append(payload, "end"...)
	o := accept(t, g, message("a", string(payload)))
	var joined []byte
	for i, e := range log.entries() {
		joined = append(joined, e.Value...)
		if want := fmt.Sprintf("(part %d of 3)", i+1); !strings.HasSuffix(e.Dead.Detail, want) || e.Device != "a" {
			t.Errorf("%q %q", e.Device, e.Dead.Detail)
		}
	}
	if o.Err != nil || len(o.Refused) != 1 || !bytes.Equal(joined, payload) || len(log.entries()) != 3 {
		t.Errorf("%+v, %d bytes in %d entries", o, len(joined), len(log.entries()))
	}
}

// TestOutcomeAfterAcknowledgement: nothing is told while an append, of a
// reading or of a dead letter, is not acknowledged; and what is told then is
// told once. fakeLog checks that entries did not change meanwhile.
func TestOutcomeAfterAcknowledgement(t *testing.T) {
	log := newFakeLog()
	log.held = true
	g := NewGate(Config{Appender: log})
	var told []int
	payloads := []string{`[{"x":1},{"x":2}]`, `broken`, `{"x":"text"}`}
	for i, text := range payloads {
		payload := []byte(text)
		m := message("a", "")
		m.Payload = payload
		g.Accept(t.Context(), m, func(o Outcome) {
			if o.Err != nil {
				t.Error(o.Err)
			}
			told = append(told, i)
		})
		clear(payload) // the caller's again
	}
	if told != nil {
		t.Fatalf("told before the log had acknowledged: %v", told)
	}
	log.ack(nil)
	if !slices.Equal(told, []int{0, 1, 2}) || len(log.readings()) != 3 || !slices.Equal(log.dead(), []string{"malformed broken"}) {
		t.Errorf("told %v, kept %q, dead %q", told, log.readings(), log.dead())
	}
}

func TestAppendFails(t *testing.T) {
	failure := errors.New("the disk is full")
	for _, late := range []bool{false, true} {
		log := newFakeLog()
		var events []string
		g := NewGate(Config{Appender: log, Events: Events{
			Failed:   func(source string, err error) { events = append(events, source) },
			Accepted: func(string, format.Form, int, time.Duration) { events = append(events, "accepted") },
		}})
		log.held = late
		if !late {
			log.fail = failure
		}
		var outcomes []Outcome
		g.Accept(t.Context(), message("a", `[{"x":1},{"x":2},7]`), func(o Outcome) { outcomes = append(outcomes, o) })
		log.ack(failure)
		if len(outcomes) != 1 || !errors.Is(outcomes[0].Err, failure) || outcomes[0].Accepted != 0 || !slices.Equal(events, []string{"mqtt"}) {
			t.Errorf("late %v: %+v %v", late, outcomes, events)
		}
	}
}

func TestOverloadedGivesUpAtOnce(t *testing.T) {
	log := newFakeLog()
	log.room = 1
	g := NewGate(Config{Appender: log})
	m := message("a", `[{"x":1},{"x":2},{"x":3},{"x":4}]`)
	m.Wait = false
	if o := accept(t, g, m); !errors.Is(o.Err, telemetry.ErrOverloaded) || log.tried != 2 {
		t.Errorf("%+v after %d tries", o, log.tried)
	}
}

// brokenDecoder panics in the middle of a message.
type brokenDecoder struct{}

func (brokenDecoder) Decode(_ format.Form, _ []byte, _ format.Base, yield func(format.Item) bool) error {
	yield(format.Item{Reading: &telemetry.Reading{
		Device: "a", Time: time.Now(), Metrics: []telemetry.Metric{{Name: "x", Value: telemetry.Number(1)}},
	}})
	panic("index out of range")
}

func TestPanickingDecoderLosesNothing(t *testing.T) {
	log := newFakeLog()
	panicked := 0
	g := NewGate(Config{Appender: log, Events: Events{Panicked: func(format.Form) { panicked++ }}})
	g.decoders.New = func() any { return brokenDecoder{} }
	for range 2 {
		o := accept(t, g, message("a", "poison"))
		if o.Err != nil || o.Accepted != 0 || len(o.Refused) != 1 || o.Refused[0].Err.Reason != telemetry.ReasonMalformed {
			t.Errorf("%+v", o)
		}
	}
	if !slices.Equal(log.dead(), []string{"malformed poison", "malformed poison"}) || len(log.readings()) != 0 || panicked != 2 {
		t.Errorf("%q %q %d", log.dead(), log.readings(), panicked)
	}
}

func TestStrangerCannotRedefineAliases(t *testing.T) {
	log := newFakeLog()
	g := NewGate(Config{Appender: log})
	p, err := ParsePatterns(DefaultPatterns())
	if err != nil {
		t.Fatal(err)
	}
	m := Message{Source: "mqtt", Topic: "spBv1.0/g/NBIRTH/e", Publisher: devices.Principal{Device: "other"}}
	route, ours := p.Match(m.Topic)
	if !ours {
		t.Fatal("not ours")
	}
	route.Address(&m)
	if o := accept(t, g, m); len(o.Refused) != 1 || o.Refused[0].Err.Reason != telemetry.ReasonDenied {
		t.Errorf("%+v", o)
	}
}

// TestOrderOfOneGoroutine: what one client says stays in its order.
func TestOrderOfOneGoroutine(t *testing.T) {
	log := newFakeLog()
	g := NewGate(Config{Appender: log})
	var wg sync.WaitGroup
	for client := range 4 {
		wg.Go(func() {
			for i := range 200 {
				g.Accept(t.Context(), message(fmt.Sprintf("c%d", client), fmt.Sprintf(`{"i":%d}`, i)), func(Outcome) {})
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	for _, e := range log.entries() {
		if !strings.HasSuffix(string(e.Value), fmt.Sprintf(`{"i":%d}}`, next[e.Device])) {
			t.Fatalf("%s is not number %d", e.Value, next[e.Device])
		}
		next[e.Device]++
	}
}

// nullLog acknowledges at once and keeps nothing.
type nullLog struct{ n atomic.Int64 }

func (l *nullLog) Append(_ context.Context, _ telemetry.Entry, done func(telemetry.Position, error)) {
	l.n.Add(1)
	done(telemetry.Position{}, nil)
}

func (l *nullLog) TryAppend(ctx context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	l.Append(ctx, e, done)
}

// typical is what the hot path is measured with: 71 bytes.
const typical = `{"ts":1763762400123,"speed":61.25,"lat":52.123456,"lon":4.351233,"n":7}`

func TestAcceptAllocatesNothing(t *testing.T) {
	g := NewGate(Config{Appender: &nullLog{}})
	m, done := message("truck-7", typical), func(Outcome) {}
	n := testing.AllocsPerRun(1000, func() { g.Accept(t.Context(), m, done) })
	if n > 0 && !raceEnabled { // sync.Pool drops at random under the race detector
		t.Errorf("%v allocations a message", n)
	}
}

func BenchmarkGateAccept(b *testing.B) {
	g := NewGate(Config{Appender: &nullLog{}})
	m, done, ctx := message("truck-7", typical), func(Outcome) {}, b.Context()
	b.ReportAllocs()
	for b.Loop() {
		g.Accept(ctx, m, done)
	}
}

func BenchmarkGateAcceptParallel(b *testing.B) {
	g := NewGate(Config{Appender: &nullLog{}})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		m, done, ctx := message("truck-7", typical), func(Outcome) {}, b.Context()
		for pb.Next() {
			g.Accept(ctx, m, done)
		}
	})
}
