package mqttd

import (
	"context"
	"log/slog"
	"time"

	"millrace/ingest"
)

// Gate takes messages in; [ingest.Gate] is one. done is called exactly once for
// each, maybe before Accept returns, and never blocks.
type Gate interface {
	Accept(ctx context.Context, m ingest.Message, done func(ingest.Outcome))
}

// Patterns say which topics carry telemetry; *[ingest.Patterns] is one. Match
// must be safe for concurrent use.
type Patterns interface {
	Match(topic string) (ingest.Route, bool)
}

// Config of the MQTT door. Addr, Gate, Auth and Patterns are required.
type Config struct {
	// Addr is host:port; port 0 takes any free one.
	Addr string
	Gate Gate
	// Auth says who logs in. If it has a method Allows(devices.Principal) bool
	// as well, that is asked again once a connection stands, so that a token
	// taken back in between does not slip in.
	Auth     ingest.Authenticator
	Patterns Patterns
	Limits   Limits
	Events   Events
	Log      *slog.Logger // nil: silent
}

// Limits of the MQTT door, each with its default for 0.
type Limits struct {
	Connections   int           // in all; default 10,000
	PerAddress    int           // connections of one IP address; default 4,096
	Login         time.Duration // from the connection to its whole CONNECT; default 10 s
	LoginBytes    int           // of a CONNECT; default 128 KiB
	PacketBytes   int           // of any other packet; default 1 MiB, MQTT 5 clients are told
	InFlight      int           // messages of QoS 1 and 2 a client; default 1,024, MQTT 5 clients are told
	BufferedBytes int64         // payloads of all clients that wait for the log; default 64 MiB
	Aliases       int           // topic aliases a client (MQTT 5); default 32
	Subscriptions int           // a client; default 256
	Forwards      int           // messages that wait to be written to a subscriber; default 32
	Kept          int           // QoS 1 and 2 messages a subscriber has not acknowledged, present or away; default 256
	Retained      int           // topics with a retained message; default 100,000
	Sessions      int           // client ids remembered, connected or not; default 50,000
	Session       time.Duration // how long a session outlives its connection; default 1 h
	Stuck         time.Duration // a write that makes no progress closes the connection; default 30 s
	Drain         time.Duration // for pending appends when the door stops; default 5 s
}

func (l Limits) withDefaults() Limits {
	or(&l.Connections, 10_000)
	or(&l.PerAddress, 4_096)
	or(&l.Login, 10*time.Second)
	or(&l.LoginBytes, 128<<10)
	or(&l.PacketBytes, 1<<20)
	or(&l.InFlight, 1_024)
	l.InFlight = min(l.InFlight, 65_535)
	or(&l.BufferedBytes, 64<<20)
	or(&l.Aliases, 32)
	l.Aliases = min(l.Aliases, 65_535)
	or(&l.Subscriptions, 256)
	or(&l.Forwards, 32)
	or(&l.Kept, 256)
	l.Kept = min(l.Kept, 65_535)
	or(&l.Retained, 100_000)
	or(&l.Sessions, 50_000)
	or(&l.Session, time.Hour)
	or(&l.Stuck, 30*time.Second)
	or(&l.Drain, 5*time.Second)
	return l
}

func or[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Events report what happens at the door. Each may be nil; they are called from
// many goroutines and must not block.
type Events struct {
	// Opened and Closed: a client logged in, and its connection ended.
	Opened func(version byte)
	Closed func()
	// Refused: a connection or a client was turned away, or a message on a topic
	// of the server's own (reserved). limit is one word: connections, address,
	// sessions, login, auth, keepalive, packet, inflight, subscriptions,
	// retained, reserved, protocol.
	Refused func(limit string)
	// Received: a telemetry message of size bytes went to the gate.
	Received func(qos byte, size int)
	// Acknowledged: n acknowledgements left in one write; the oldest of them had
	// waited for since its packet was read.
	Acknowledged func(n int, oldest time.Duration)
	// Plain: a message outside every telemetry topic was passed on.
	Plain func()
	// Missed: a subscriber did not keep up and lost a message.
	Missed func()
	// Duplicate: a re-sent message was recognised and not appended again.
	Duplicate func()
	// Dropped: a QoS 0 message was not appended.
	Dropped func(err error)
	// Failed: an append failed; the client is closed so that it sends again.
	Failed func(err error)
	// Panicked: a defect in handling one connection was contained.
	Panicked func()
}
