package ingest

import (
	"context"
	"log/slog"
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

// Events report what happens at the gate. Each may be nil; they are called
// from many goroutines and must not block.
type Events struct {
	// Accepted: the log acknowledged a message's readings, took after its receipt.
	Accepted func(source string, form format.Form, readings int, took time.Duration)
	// Refused: an item became a dead letter.
	Refused func(source string, reason telemetry.Reason)
	// Failed: an append failed, the message was not acknowledged.
	Failed func(source string, err error)
	// Panicked: a decoder had a defect; the message became a dead letter.
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

// Gate decodes, checks and appends. It is safe for concurrent use; the messages
// of one goroutine keep their order.
type Gate struct {
	config Config
}

// NewGate makes a gate in front of config.Appender.
func NewGate(config Config) *Gate { return &Gate{config: config} }

// Accept takes a message in. done is called exactly once, maybe before Accept
// returns, from a goroutine that must not be blocked: after the log has
// acknowledged every accepted reading and every dead letter of the refused
// ones. The payload is the caller's again when Accept returns.
func (g *Gate) Accept(ctx context.Context, m Message, done func(Outcome)) {
	done(Outcome{Err: telemetry.ErrUnavailable})
}
