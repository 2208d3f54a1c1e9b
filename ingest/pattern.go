package ingest

import (
	"errors"
	"fmt"
	"strings"

	"millrace/telemetry"
	"millrace/telemetry/format"
)

// DefaultPatterns are the topics that carry telemetry if nothing else is said.
func DefaultPatterns() []string {
	return []string{"telemetry/{device}", "telemetry/{device}/{metric}", "v1/devices/me/telemetry", "spBv1.0/#"}
}

// Patterns say which topics carry telemetry, and what a topic tells. They are
// safe for concurrent use.
//
// A pattern is an MQTT topic filter whose levels may also be {device} and
// {metric}. With {metric} the payload is a bare value; else it is JSON, unless
// the pattern begins with a form's name: "line:plant/{device}". Without
// {device} the device is the one that logged in. What begins with spBv1.0 is
// Sparkplug B, whose topics name the device by themselves. The first pattern
// that matches counts.
//
// All topics below telemetry/ are ours, once a pattern begins with it: one that
// matches none is a mistake to be told of, not a message for somebody else.
type Patterns struct {
	list []pattern
	own  bool // a pattern begins with telemetry/
}

const (
	ownLevel       = "telemetry"
	sparkplugLevel = "spBv1.0"
)

type levelKind uint8

const (
	levelText   levelKind = iota // the text itself
	levelDevice                  // {device}
	levelMetric                  // {metric}
	levelOne                     // +
	levelRest                    // #
)

type level struct {
	kind levelKind
	text string
}

type pattern struct {
	levels []level
	form   format.Form
	me     bool
}

// Route is what a topic tells.
type Route struct {
	Device string
	Metric string
	Form   format.Form
	Me     bool // the device is the one that logged in
	// Refused: the topic is ours but out of form.
	Refused *telemetry.Refusal
}

// Address writes the route into the message: device, metric, form, refusal. The
// message's Publisher must be set before.
func (r Route) Address(m *Message) {
	m.Device, m.Metric, m.Form, m.Refused = r.Device, r.Metric, r.Form, r.Refused
	if r.Me {
		m.Device = m.Publisher.Device
	}
}

// ParsePatterns reads patterns. The error is a *[telemetry.BadRequest] that
// names the first wrong one.
func ParsePatterns(texts []string) (*Patterns, error) {
	p := &Patterns{}
	for _, text := range texts {
		one, err := parsePattern(text)
		if err != nil {
			return nil, &telemetry.BadRequest{Parameter: "pattern", Detail: fmt.Sprintf("%.200q: %v", text, err)}
		}
		p.list = append(p.list, one)
		p.own = p.own || one.levels[0].text == ownLevel
	}
	return p, nil
}

func parsePattern(text string) (pattern, error) {
	one := pattern{form: format.JSON, me: true}
	explicit := false
	if name, rest, ok := strings.Cut(text, ":"); ok {
		if form, err := format.ParseForm(name); err == nil {
			one.form, explicit, text = form, true, rest
		}
	}
	if text == "" || len(text) > 65535 || strings.ContainsAny(text, "\x00") {
		return one, errors.New("is not a topic filter: write something like sensors/{device}/data")
	}
	seen := map[levelKind]bool{}
	parts := strings.Split(text, "/")
	for i, part := range parts {
		l, err := parseLevel(part)
		if err != nil {
			return one, err
		}
		if l.kind == levelRest && i < len(parts)-1 {
			return one, errors.New("# may only be the last level")
		}
		if seen[l.kind] && (l.kind == levelDevice || l.kind == levelMetric) {
			return one, fmt.Errorf("%s may stand only once", part)
		}
		seen[l.kind] = true
		one.levels = append(one.levels, l)
	}
	return one, one.settle(seen, explicit)
}

func parseLevel(part string) (level, error) {
	switch part {
	case "{device}":
		return level{kind: levelDevice}, nil
	case "{metric}":
		return level{kind: levelMetric}, nil
	case "+":
		return level{kind: levelOne}, nil
	case "#":
		return level{kind: levelRest}, nil
	}
	if strings.ContainsAny(part, "{}+#") {
		return level{}, fmt.Errorf("level %q: a level is {device}, {metric}, +, # or plain text", part)
	}
	return level{text: part}, nil
}

// settle decides the form and where the device comes from.
func (one *pattern) settle(seen map[levelKind]bool, explicit bool) error {
	switch {
	case one.levels[0].text == sparkplugLevel && (!explicit || one.form == format.Sparkplug):
		if seen[levelDevice] || seen[levelMetric] {
			return errors.New("topics of Sparkplug name their devices by themselves: write spBv1.0/#")
		}
		one.form, one.me = format.Sparkplug, false
		return nil
	case one.form == format.Sparkplug:
		return errors.New("a Sparkplug topic begins with spBv1.0/")
	case seen[levelMetric]:
		if explicit && one.form != format.Value {
			return fmt.Errorf("{metric} is for bare values, not for %s: leave one of them out", one.form)
		}
		one.form = format.Value
	}
	one.me = !seen[levelDevice]
	return nil
}

// Match says whether the topic carries telemetry, and what it tells; it
// allocates only for Sparkplug's device names and for refusals. A topic for
// which it is false is a plain message between clients.
func (p *Patterns) Match(topic string) (Route, bool) {
	for i := range p.list {
		one := &p.list[i]
		route, ok := one.match(topic)
		if !ok {
			continue
		}
		if one.form == format.Sparkplug {
			return sparkplugRoute(topic)
		}
		return route, true
	}
	if p.own && (topic == ownLevel || strings.HasPrefix(topic, ownLevel+"/")) {
		return Route{Refused: telemetry.Refuse(telemetry.ReasonTopic,
			"topic %.200q is neither telemetry/DEVICE nor telemetry/DEVICE/METRIC: publish there", topic)}, true
	}
	return Route{}, false
}

func (one *pattern) match(topic string) (Route, bool) {
	route := Route{Form: one.form, Me: one.me}
	rest, more := topic, true
	for i := range one.levels {
		l := &one.levels[i]
		if i == 0 && l.kind != levelText && strings.HasPrefix(topic, "$") {
			return route, false // wildcards leave $SYS alone (MQTT-4.7.2-1)
		}
		if l.kind == levelRest {
			return route, true
		}
		if !more {
			return route, false
		}
		var part string
		part, rest, more = strings.Cut(rest, "/")
		switch l.kind {
		case levelDevice:
			route.Device = part
		case levelMetric:
			route.Metric = part
		case levelText:
			if part != l.text {
				return route, false
			}
			continue
		case levelOne:
			continue
		}
		if part == "" {
			return route, false
		}
	}
	return route, !more
}

func sparkplugRoute(topic string) (Route, bool) {
	t, ours, refused := format.ParseSparkplugTopic(topic)
	route := Route{Form: format.Sparkplug, Refused: refused}
	if ours && refused == nil {
		route.Device = t.Name()
	}
	return route, ours
}
