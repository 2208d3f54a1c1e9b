package ingest

import (
	"millrace/telemetry"
	"millrace/telemetry/format"
)

// DefaultPatterns are the topics that carry telemetry if nothing else is said.
func DefaultPatterns() []string {
	return []string{"telemetry/{device}", "telemetry/{device}/{metric}", "v1/devices/me/telemetry", "spBv1.0/#"}
}

// Patterns say which topics carry telemetry and what the topic tells. They are
// safe for concurrent use.
type Patterns struct {
	list []pattern
}

type pattern struct{}

// Route is what a topic tells.
type Route struct {
	Device string
	Metric string
	Form   format.Form
	Me     bool // the device is the one that logged in
	// Refused: the topic is ours but out of form.
	Refused *telemetry.Refusal
}

// Address writes the route into the message: device, metric, form, refusal.
// m.Publisher must be set before.
func (r Route) Address(m *Message) {
	m.Device, m.Metric, m.Form, m.Refused = r.Device, r.Metric, r.Form, r.Refused
	if r.Me {
		m.Device = m.Publisher.Device
	}
}

// ParsePatterns reads patterns. The error is a *[telemetry.BadRequest].
func ParsePatterns(texts []string) (*Patterns, error) { return &Patterns{}, nil }

// Match says whether the topic carries telemetry, and what it tells. A topic
// for which it is false is a plain message between clients.
func (p *Patterns) Match(topic string) (Route, bool) { return Route{}, false }
