// Package bridge brings the messages of another MQTT broker through the gate.
//
//	broker ──QoS 1──▶ session ──▶ intake ──▶ Gate.Accept ──▶ the log
//	       ◀──PUBACK── in order ◀─ intake ◀──── done ◀────────┘
//
// Its invariant: the other broker gets its acknowledgement only after the log
// has acknowledged all that the message said. What is not acknowledged stays in
// the broker's persistent session and comes again on the next connection: after
// a failed append, a lost connection, or a crash of this process.
//
// How fast one bridge is, is up to the other broker: it has some number of
// messages under way (mosquitto: max_inflight_messages, 20 unless configured),
// and each waits for the log. Twenty at five milliseconds are 4,000 a second.
package bridge

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"millrace/ingest"
	"millrace/telemetry"
)

// Gate is where messages go; [ingest.Gate] is one. done is called exactly once,
// and must not be blocked.
type Gate interface {
	Accept(ctx context.Context, m ingest.Message, done func(ingest.Outcome))
}

// Config of a [Bridge].
type Config struct {
	// From is the other broker: mqtt://host:port, mqtts://, ws://, wss:// or a
	// bare host:port.
	From string
	// Topics to subscribe to, as MQTT topic filters; at least one.
	Topics []string
	// DeviceFrom says what topics tell, as in [ingest.ParsePatterns]; none: the
	// gate's own patterns. A message of another topic is a dead letter.
	DeviceFrom []string
	// QoS to subscribe with: 0, 1 or 2. With 0, what the log has no room for is
	// dropped and counted.
	QoS byte
	// ClientID names the session at the other broker; it must be the same after a
	// restart, and nobody else's. "": made of From and Topics, so that it is.
	ClientID       string
	User, Password string
	TLS            *tls.Config // for mqtts and wss; nil: the system's authorities

	Gate   Gate
	Log    *slog.Logger // nil: none
	Events Events
}

// Events tells what happens to a bridge. Each may be nil. They are called from
// several goroutines and must not block.
type Events struct {
	Connected    func(resumed bool) // resumed: the broker has kept the session
	Lost         func(err error)    // the connection ended, or could not be made; tried again
	Received     func(bytes int)    // a message came in
	Acknowledged func(messages int) // acknowledged to the other broker
	Failed       func(err error)    // the log did not take a message; the broker sends it again
	Dropped      func(messages int) // QoS 0 and no room
}

// Limits of what a bridge holds. Beyond them it takes nothing more until all of
// it is acknowledged, and then has the rest sent again.
const (
	maxTaken      = 1 << 16  // messages; MQTT's packet identifiers allow no more
	maxTakenBytes = 64 << 20 // of payload
)

// drainTime is how long a cancelled bridge waits for the log.
const drainTime = 5 * time.Second

// Bridge brings another broker's messages through the gate. Make it with New.
type Bridge struct {
	config   Config
	address  *url.URL
	patterns *ingest.Patterns
	limits   limits
	drain    time.Duration // drainTime, but in tests
	// subscribed: the session at the other broker has our topics; belongs to Run's goroutine.
	subscribed bool
}

// New makes a bridge, and says what is wrong with the config. It does not
// connect yet: that is Run's.
func New(config Config) (*Bridge, error) {
	address, err := parseAddress(config.From)
	if err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if err := checkTopics(config.Topics); err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if config.QoS > 2 {
		return nil, fmt.Errorf("bridge: QoS %d: give 0, 1 or 2", config.QoS)
	}
	if config.Gate == nil {
		return nil, errors.New("bridge: no gate to bring messages to")
	}
	if len(config.DeviceFrom) == 0 {
		config.DeviceFrom = ingest.DefaultPatterns()
	}
	patterns, err := ingest.ParsePatterns(config.DeviceFrom)
	if err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if config.ClientID == "" {
		config.ClientID = clientID(address, config.Topics)
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Bridge{
		config: config, address: address, patterns: patterns,
		limits: limits{messages: maxTaken, bytes: maxTakenBytes}, drain: drainTime,
	}, nil
}

// clientID is the same for the same broker and topics, and fits into the 23
// bytes that every broker must allow (MQTT-3.1.3-5).
func clientID(address *url.URL, topics []string) string {
	hash := sha256.Sum256([]byte(address.Host + "\n" + strings.Join(topics, "\n")))
	return "millrace" + strings.ToLower(base32.StdEncoding.EncodeToString(hash[:])[:15])
}

func checkTopics(topics []string) error {
	if len(topics) == 0 {
		return errors.New("no topic to subscribe to: give one, such as sensors/+/data")
	}
	for _, topic := range topics {
		levels := strings.Split(topic, "/")
		for i, level := range levels {
			wrong := strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) ||
				strings.Contains(level, "+") && level != "+"
			if topic == "" || wrong || strings.ContainsRune(topic, 0) {
				return fmt.Errorf("topic %q: # must be the whole last level, + a whole level", topic)
			}
		}
	}
	return nil
}

func parseAddress(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("no broker to bring messages from: give its address, such as mqtt://host:1883")
	}
	if !strings.Contains(text, "://") {
		text = "mqtt://" + text
	}
	address, err := url.Parse(text)
	if err != nil || address.Host == "" {
		return nil, errors.New("the broker's address is not like mqtt://host:1883") // not shown: it may hold a password
	}
	ports := map[string]string{
		"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883", "ws": "80", "wss": "443",
	}
	port, known := ports[address.Scheme]
	if !known {
		return nil, fmt.Errorf("broker address %s: scheme %q is none of mqtt, mqtts, ws, wss", address.Redacted(), address.Scheme)
	}
	if address.Port() == "" {
		address.Host += ":" + port
	}
	return address, nil
}

// Run brings messages until ctx is cancelled; then it takes no more, waits up to
// five seconds for the log, acknowledges, disconnects, and returns nil. It
// returns an error only if the first connection fails; a later loss is
// reconnected for as long as it takes.
func (b *Bridge) Run(ctx context.Context) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(b.drain, end) })
	defer stop()
	wait := time.Duration(0)
	for first := true; ; first = false {
		if !pause(ctx, wait) {
			return nil
		}
		wait = min(max(2*wait, 100*time.Millisecond), 5*time.Second)
		s, err := b.connect(ctx)
		if ctx.Err() != nil && s == nil {
			return nil
		}
		if err != nil && first {
			return fmt.Errorf("bridge: %w", err)
		}
		if err == nil {
			err = s.run(ctx, life)
			if s.worked() {
				wait = 0
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		b.config.Log.Warn("the bridge's connection ended; the broker sends again what was not acknowledged",
			"from", b.address.Redacted(), "error", err)
		if b.config.Events.Lost != nil {
			b.config.Events.Lost(err)
		}
	}
}

// route writes what the topic tells into the message.
func (b *Bridge) route(m *ingest.Message) {
	route, known := b.patterns.Match(m.Topic)
	if !known {
		m.Refused = telemetry.Refuse(telemetry.ReasonTopic,
			"topic %.80q is outside %s: give a pattern that names its device", m.Topic, strings.Join(b.config.DeviceFrom, ", "))
		return
	}
	route.Address(m)
}

// pause waits for d; false: ctx was cancelled before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
