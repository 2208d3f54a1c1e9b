package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"millrace/telemetry"
	"millrace/telemetry/format"
)

// maxDead is the largest dead letter. A longer one is kept in parts, in order,
// so that each fits into a record of a broker with default settings.
const maxDead = telemetry.MaxReading

// Flights larger than this are left to the garbage collector, so that one big
// message does not make the pool big for ever.
const (
	keepBytes   = 64 << 10
	keepEntries = 1024
)

// flight is a message between its receipt and the log's last acknowledgement.
// First everything is loaded, and only then is it sent: a payload that turns
// out broken at its end has put nothing into the log.
type flight struct {
	gate     *Gate
	message  Message
	received time.Time
	done     func(Outcome)

	outcome Outcome
	entries []telemetry.Entry
	bytes   []byte // what the entries' values are parts of
	buried  bool   // the whole payload is among the dead letters

	// take and landed are the methods takeItem and land, bound once: a method
	// value made for each message would be an allocation for each.
	take   func(format.Item) bool
	landed func(telemetry.Position, error)

	pending atomic.Int32          // appends not acknowledged, and one while sending
	failure atomic.Pointer[error] // the first append's error
}

func newFlight(g *Gate) *flight {
	f := &flight{gate: g}
	f.take, f.landed = f.takeItem, f.land
	return f
}

func (f *flight) begin(m Message, done func(Outcome)) {
	if m.Form == format.None {
		m.Form = format.JSON
	}
	f.message, f.done, f.received = m, done, time.Now()
	f.failure.Store(nil)
	f.unload()
}

// unload forgets what was loaded.
func (f *flight) unload() {
	f.outcome, f.buried = Outcome{}, false
	f.entries, f.bytes = f.entries[:0], f.bytes[:0]
}

// load turns the message into entries: readings, or dead letters.
func (f *flight) load() {
	m := &f.message
	if refused := f.unfit(); refused != nil {
		f.refuse(0, nil, refused)
		return
	}
	err := f.gate.decode(f, format.Base{
		Device: m.Device, Metric: m.Metric, Topic: m.Topic, Received: f.received, Precision: m.Precision,
	})
	if err == nil {
		return
	}
	f.unload()
	var refused *telemetry.Refusal
	if !errors.As(err, &refused) {
		refused = telemetry.Refuse(telemetry.ReasonMalformed, "%v", err)
	}
	f.refuse(0, nil, refused)
}

// unfit is what refuses the message before it is decoded.
func (f *flight) unfit() *telemetry.Refusal {
	m := &f.message
	switch {
	case m.Refused != nil:
		return m.Refused
	case len(m.Payload) > f.gate.limits.PayloadBytes:
		return telemetry.Refuse(telemetry.ReasonLimit, "a message of %d bytes is longer than %d: split it",
			len(m.Payload), f.gate.limits.PayloadBytes)
	case m.Device == "":
		return nil
	}
	if refused := refusal(telemetry.CheckDevice(m.Device)); refused != nil {
		return refused
	}
	return f.denied(m.Device)
}

// denied refuses a device for which the publisher may not speak. Sparkplug
// births depend on it standing before the decoder: a stranger's birth must not
// redefine another's aliases.
func (f *flight) denied(device string) *telemetry.Refusal {
	if f.message.Publisher.MayPublish(device) {
		return nil
	}
	return telemetry.Refuse(telemetry.ReasonDenied,
		"this login may not publish for device %.128q: log in as that device", device)
}

// refusal is err as what it must be. Check and CheckDevice promise it.
func refusal(err error) *telemetry.Refusal {
	if err == nil {
		return nil
	}
	var r *telemetry.Refusal
	if !errors.As(err, &r) {
		r = telemetry.Refuse(telemetry.ReasonMalformed, "%v", err)
	}
	return r
}

// takeItem is what the decoder yields to.
func (f *flight) takeItem(item format.Item) bool {
	refused := item.Refused
	if refused == nil {
		refused = f.accept(item.Reading)
	}
	if refused != nil {
		f.refuse(item.Index, item.Raw, refused)
	}
	return true
}

// accept loads the reading, or says why not.
func (f *flight) accept(r *telemetry.Reading) *telemetry.Refusal {
	if refused := f.name(r); refused != nil {
		return refused
	}
	if r.Time.IsZero() {
		r.Time = f.gate.clock.next(f.received)
	}
	if err := r.Check(f.received); err != nil {
		return refusal(err)
	}
	if refused := f.denied(r.Device); refused != nil {
		return refused
	}
	from := len(f.bytes)
	f.bytes = r.AppendJSON(f.bytes)
	if size := len(f.bytes) - from; size > telemetry.MaxReading {
		f.bytes = f.bytes[:from]
		return telemetry.Refuse(telemetry.ReasonLimit, "a reading of %d bytes is longer than %d: split it", size, telemetry.MaxReading)
	}
	f.enter(r.Device, from, nil)
	f.outcome.Accepted++
	return nil
}

// name gives the reading the device that the door knows, and refuses one that
// says another: it is not for the gate to choose.
func (f *flight) name(r *telemetry.Reading) *telemetry.Refusal {
	door := f.message.Device
	switch {
	case r.Device == "" && door == "":
		r.Device = f.message.Publisher.Device
	case r.Device == "":
		r.Device = door
	case door != "" && r.Device != door:
		return telemetry.Refuse(telemetry.ReasonDevice,
			"the message names device %.128q, but came for %q: leave it out or send it there", r.Device, door)
	}
	return nil
}

// refuse loads the dead letter of an item. raw nil stands for the whole
// payload, which is kept once, with the first reason.
func (f *flight) refuse(index int, raw []byte, refused *telemetry.Refusal) {
	if len(f.outcome.Refused) < f.gate.limits.Refusals {
		f.outcome.Refused = append(f.outcome.Refused, Refused{Index: index, Err: refused})
	} else {
		f.outcome.Omitted++
	}
	if f.gate.events.Refused != nil {
		f.gate.events.Refused(f.message.Source, refused.Reason)
	}
	if raw == nil {
		if f.buried {
			return
		}
		f.buried, raw = true, f.message.Payload
	}
	f.bury(raw, refused)
}

func (f *flight) bury(raw []byte, refused *telemetry.Refusal) {
	m := &f.message
	device := m.Device
	if device == "" {
		device = m.Publisher.Device
	}
	if telemetry.CheckDevice(device) != nil {
		device = ""
	}
	parts := max(1, (len(raw)+maxDead-1)/maxDead)
	for part := 1; part <= parts; part++ {
		dead := &telemetry.DeadLetter{
			Reason: refused.Reason, Detail: refused.Detail, Source: m.Source, Topic: m.Topic, Client: m.Client,
		}
		if parts > 1 {
			dead.Detail += fmt.Sprintf(" (part %d of %d)", part, parts)
		}
		size := min(len(raw), maxDead)
		from := len(f.bytes)
		f.bytes = append(f.bytes, raw[:size]...)
		raw = raw[size:]
		f.enter(device, from, dead)
	}
}

// enter adds the entry whose value is all bytes behind from. When the buffer
// grows, earlier entries keep the old one.
func (f *flight) enter(device string, from int, dead *telemetry.DeadLetter) {
	f.entries = append(f.entries, telemetry.Entry{
		Device: device, Value: f.bytes[from:len(f.bytes):len(f.bytes)], Received: f.received, Dead: dead,
	})
}

// send appends all entries. It gives up behind the first failure it sees: the
// message will be sent again whole.
func (f *flight) send(ctx context.Context) {
	f.message.Payload = nil // the caller's again
	push := f.gate.appender.TryAppend
	if f.message.Wait {
		push = f.gate.appender.Append
	}
	f.pending.Store(int32(len(f.entries)) + 1)
	for i := range f.entries {
		if f.failure.Load() != nil {
			f.pending.Add(int32(i - len(f.entries)))
			break
		}
		push(ctx, f.entries[i], f.landed)
	}
	f.land(telemetry.Position{}, nil)
}

// land counts one append down; the last one tells the outcome.
func (f *flight) land(_ telemetry.Position, err error) {
	if err != nil {
		f.fail(err)
	}
	if f.pending.Add(-1) > 0 {
		return
	}
	outcome, done := f.outcome, f.done
	if failure := f.failure.Load(); failure != nil {
		outcome = Outcome{Err: fmt.Errorf("ingest: append: %w", *failure)}
	}
	f.tell(outcome)
	f.rest()
	done(outcome)
}

// fail keeps the first error. It stands apart from land so that an append that
// does not fail does not allocate an error's place.
func (f *flight) fail(err error) { f.failure.CompareAndSwap(nil, &err) }

func (f *flight) tell(o Outcome) {
	events, m := &f.gate.events, &f.message
	switch {
	case o.Err != nil && events.Failed != nil:
		events.Failed(m.Source, o.Err)
	case o.Accepted > 0 && events.Accepted != nil:
		events.Accepted(m.Source, m.Form, o.Accepted, time.Since(f.received))
	}
}

// rest puts the flight back for the next message. Nothing may touch it behind.
func (f *flight) rest() {
	clear(f.entries)
	f.message, f.done, f.outcome = Message{}, nil, Outcome{}
	if cap(f.bytes) <= keepBytes && cap(f.entries) <= keepEntries {
		f.gate.flights.Put(f)
	}
}
