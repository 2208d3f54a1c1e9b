// Package ingest is the gate through which everything a device says goes into
// the log, and the HTTP door before it.
//
//	HTTP ─ Handler ─┐             ┌─ format.Decoder ─▶ Check ─▶ MayPublish ─┐
//	MQTT ─ mqttd ───┼─ Message ─▶ Gate                                      ├─▶ Appender ─▶ the log
//	bridge ─────────┘             └──────────── refused, byte for byte ─────┘
//	        ◀─────────────────────────── Outcome, once the log has acknowledged ──┘
//
// Its invariant: an [Outcome] without Err is told only after the log has
// acknowledged everything the message said, as readings or as dead letters; so
// whoever passes it on as an acknowledgement promises nothing that is not kept.
package ingest

import (
	"context"
	"time"

	"millrace/devices"
	"millrace/telemetry"
	"millrace/telemetry/format"
)

// Appender puts entries into the log. Both methods may be called from several
// goroutines; entries of one goroutine keep their order. done is called exactly
// once for each, maybe before the method returns, from a goroutine that must
// not be blocked.
type Appender interface {
	// Append waits for room until ctx is done.
	Append(ctx context.Context, e telemetry.Entry, done func(telemetry.Position, error))
	// TryAppend never waits: without room, done gets [telemetry.ErrOverloaded].
	TryAppend(ctx context.Context, e telemetry.Entry, done func(telemetry.Position, error))
}

// Authenticator says who a user is. The error wraps [telemetry.ErrUnauthorized]
// or [telemetry.ErrUnavailable].
type Authenticator interface {
	Authenticate(ctx context.Context, user, password string) (devices.Principal, error)
}

// Message is what came through a door.
type Message struct {
	Source string // the door: mqtt, http, bridge
	Topic  string // the MQTT topic or the HTTP path
	Client string // the MQTT client id or the remote address

	Device string      // from topic, path or login; "" if the payload names devices
	Metric string      // for [format.Value]: the metric of the bare value
	Form   format.Form // which decoder; [format.None] is JSON
	// Precision of integer times in line protocol; 0: told apart by magnitude.
	Precision time.Duration
	// Payload is not kept after Accept returns.
	Payload []byte
	// Refused is set by a door that found the message wrong already: it becomes a
	// dead letter with this reason and is not decoded.
	Refused *telemetry.Refusal

	Publisher devices.Principal
	// Wait: true waits for room in the log (QoS 1 and 2, bridge); false answers
	// [telemetry.ErrOverloaded] (QoS 0, HTTP).
	Wait bool
}

// Outcome is what became of a message.
type Outcome struct {
	// Accepted readings: the log has acknowledged them.
	Accepted int
	// Refused items, in the order of the payload: the log has acknowledged their
	// dead letters. At most [Limits].Refusals of them, Omitted are more.
	Refused []Refused
	Omitted int
	// Err: an append failed and nothing may be acknowledged. Some of the message
	// may be in the log nevertheless; sending all of it again is safe where
	// readings carry their own time, because (device, metric, time) tells a re-send.
	Err error
}

// Refused is an item that cannot be accepted, and why.
type Refused struct {
	Index int // of the item in the payload, from 0
	Err   *telemetry.Refusal
}
