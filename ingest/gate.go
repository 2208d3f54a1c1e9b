package ingest

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"millrace/telemetry"
	"millrace/telemetry/format"
)

// Limits of the gate. Reaching one is a refusal that names it.
type Limits struct {
	PayloadBytes    int // of one message; default 8 MiB (a door may allow less)
	ItemsPerMessage int // readings and refusals a message; default 10,000
	Depth           int // objects and arrays inside each other; default 16
	Refusals        int // listed in one Outcome; default 100
}

func (l Limits) orDefault() Limits {
	or := func(value *int, otherwise int) {
		if *value <= 0 {
			*value = otherwise
		}
	}
	or(&l.PayloadBytes, 8<<20)
	or(&l.ItemsPerMessage, 10_000)
	or(&l.Depth, 16)
	or(&l.Refusals, 100)
	return l
}

// Events report what happens at the gate. Each may be nil; they are called
// from many goroutines and must not block.
type Events struct {
	// Accepted: the log acknowledged a message's readings, took after its receipt.
	Accepted func(source string, form format.Form, readings int, took time.Duration)
	// Refused: an item cannot be accepted and becomes a dead letter.
	Refused func(source string, reason telemetry.Reason)
	// Failed: an append failed, the message was not acknowledged.
	Failed func(source string, err error)
	// Panicked: a decoder has a defect; the message becomes a dead letter.
	Panicked func(form format.Form)
}

// Config of a [Gate].
type Config struct {
	Appender Appender
	Limits   Limits
	Events   Events
	Log      *slog.Logger // nil: silent
	// DeviceTags are the line protocol tags that name the device; see [format.Config].
	DeviceTags []string
}

// decoder is [format.Decoder]; tests put broken ones in its place.
type decoder interface {
	Decode(form format.Form, payload []byte, base format.Base, yield func(format.Item) bool) error
}

// Gate decodes, checks and appends. It is safe for concurrent use; the messages
// of one goroutine keep their order.
type Gate struct {
	appender Appender
	limits   Limits
	events   Events
	log      *slog.Logger
	clock    clock
	decoders sync.Pool // of decoder
	flights  sync.Pool // of *flight
}

// NewGate makes a gate in front of config.Appender.
func NewGate(config Config) *Gate {
	g := &Gate{
		appender: config.Appender,
		limits:   config.Limits.orDefault(),
		events:   config.Events,
		log:      config.Log,
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	forms := format.Config{
		Limits:     format.Limits{Items: g.limits.ItemsPerMessage, Depth: g.limits.Depth},
		DeviceTags: config.DeviceTags,
		Aliases:    format.NewAliases(0),
	}
	g.decoders.New = func() any { return format.NewDecoder(forms) }
	g.flights.New = func() any { return newFlight(g) }
	return g
}

// Accept takes a message in. done is called exactly once, maybe before Accept
// returns, from a goroutine that must not be blocked: after the log has
// acknowledged every accepted reading and every dead letter of the refused
// ones. The payload is the caller's again when Accept returns. A message that
// says nothing, like an empty array, is accepted with a count of zero.
func (g *Gate) Accept(ctx context.Context, m Message, done func(Outcome)) {
	f := g.flights.Get().(*flight)
	f.begin(m, done)
	f.load()
	f.send(ctx)
}

// decode runs a decoder over the flight's message. A decoder that panics has a
// defect that this payload shows: what it said so far is discarded and the
// payload becomes a dead letter, so that nothing is lost and nobody else's
// readings are in danger.
func (g *Gate) decode(f *flight, base format.Base) (err error) {
	d := g.decoders.Get().(decoder)
	form := f.message.Form
	defer func() {
		if p := recover(); p != nil {
			// d is in an unknown state and is not used again.
			g.log.Error("a decoder panicked; the message is kept as a dead letter",
				slog.String("form", form.String()), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			if g.events.Panicked != nil {
				g.events.Panicked(form)
			}
			err = telemetry.Refuse(telemetry.ReasonMalformed,
				"the %s decoder failed on this message, a defect of Millrace: report it with the message's bytes", form)
			return
		}
		g.decoders.Put(d)
	}()
	return d.Decode(form, f.message.Payload, base, f.take)
}

// clock gives times of receipt to readings without their own: strictly
// increasing, so that no two of them are one sample.
type clock struct {
	last atomic.Int64 // Unix microseconds
}

// setBack is how far the clock's last time may lie ahead of the system's before
// that must have been set back. Below it, time goes on in single microseconds.
const setBack = 10 * time.Second

func (c *clock) next(now time.Time) time.Time {
	for {
		last, next := c.last.Load(), now.UnixMicro()
		if next <= last && last-next < setBack.Microseconds() {
			next = last + 1
		}
		if c.last.CompareAndSwap(last, next) {
			return time.UnixMicro(next)
		}
	}
}
