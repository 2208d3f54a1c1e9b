package broadcaster

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/telemetry"
)

// Query is what a subscription asks for.
type Query struct {
	Filter   telemetry.Filter
	Every    time.Duration    // at most one update a device in this time, the latest wins; 0: all
	Snapshot bool             // latest values first
	From     telemetry.Cursor // where to begin; the zero Cursor: now
	To       time.Time        // readings from this time on are not wanted; zero: no end
	Until    telemetry.Cursor // a place in the log at which to end; the zero Cursor: no end
	Speed    float64          // playback: 1 is as it was, 10 ten times as fast; 0: as fast as it goes
}

// maxSpeed bounds playback's factor; beyond it, max is meant.
const maxSpeed = 1e6

// maxEvery bounds Query.Every.
const maxEvery = 24 * time.Hour

// ParseQuery reads a query from parameters with the names and forms of DESIGN's
// interface: device, metric, where, bbox, every, snapshot, from (cursor, RFC
// 3339 time, or an age such as -24h), cursor (the same as from), to, speed.
// now is what ages are counted from. The error is a *[telemetry.BadRequest]
// that names the parameter.
func ParseQuery(values map[string][]string, now time.Time) (Query, error) {
	for name := range values {
		if !strings.Contains(parameters, " "+name+" ") {
			return Query{}, &telemetry.BadRequest{Parameter: clip(name), Detail: "there is no such parameter; there are" + strings.TrimSuffix(parameters, " ")}
		}
	}
	filter, err := telemetry.ParseFilter(values)
	if err != nil {
		return Query{}, err
	}
	q := Query{Filter: filter}
	for _, p := range []struct {
		name string
		read func(text string) error
	}{
		{"every", q.readEvery},
		{"snapshot", q.readSnapshot},
		{"from", func(text string) error { return q.readFrom(text, now) }},
		{"cursor", func(text string) error { return q.readFrom(text, now) }},
		{"to", func(text string) error { return q.readTo(text, now) }},
		{"speed", q.readSpeed},
	} {
		text := last(values[p.name])
		if text == "" {
			continue
		}
		if err := p.read(text); err != nil {
			return Query{}, &telemetry.BadRequest{Parameter: p.name, Detail: err.Error()}
		}
	}
	return q, q.check()
}

// parameters are all names that ParseQuery takes. token belongs to whoever
// stands before the hub.
const parameters = " device metric where bbox every snapshot from cursor to speed token "

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

func (q *Query) readEvery(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxEvery {
		return fmt.Errorf("%s is not a time such as 500ms or 10s, up to 24h", clip(text))
	}
	q.Every = d
	return nil
}

func (q *Query) readSnapshot(text string) error {
	on, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%s is neither true nor false", clip(text))
	}
	q.Snapshot = on
	return nil
}

func (q *Query) readFrom(text string, now time.Time) error {
	from, err := ParsePlace(text, now)
	q.From = from
	return err
}

func (q *Query) readTo(text string, now time.Time) error {
	to, err := ParsePlace(text, now)
	if err != nil {
		return err
	}
	if to.InPast() {
		q.To = to.Time
	} else {
		q.Until = to
	}
	return nil
}

func (q *Query) readSpeed(text string) error {
	speed, err := ParseSpeed(text)
	q.Speed = speed
	return err
}

// ParseSpeed reads a playback speed: a factor such as 1 or 10, or max, which is 0.
func ParseSpeed(text string) (float64, error) {
	if text == "max" {
		return 0, nil
	}
	speed, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || !(speed >= 0.001 && speed <= maxSpeed) {
		return 0, fmt.Errorf("%s is not a speed: use 1, 10, another factor from 0.001 to 1e6, or max", clip(text))
	}
	return speed, nil
}

// ParsePlace reads a cursor, an RFC 3339 time, or an age before now such as -24h.
func ParsePlace(text string, now time.Time) (telemetry.Cursor, error) {
	if age, err := time.ParseDuration(text); err == nil {
		if age > 0 || -age > 100*365*24*time.Hour {
			return telemetry.Cursor{}, fmt.Errorf("%s is not an age: write it as -24h", clip(text))
		}
		return telemetry.Cursor{Time: now.Add(age).UTC().Truncate(time.Microsecond)}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		t = t.UTC().Truncate(time.Microsecond)
		if t.Before(telemetry.MinTime) {
			t = telemetry.MinTime
		}
		return telemetry.Cursor{Time: t}, nil
	}
	c, err := telemetry.ParseCursor(text)
	if err != nil {
		return c, fmt.Errorf("%s is neither a cursor that a message carried, nor an RFC 3339 time, nor an age such as -24h", clip(text))
	}
	return c, nil
}

func (q *Query) check() error {
	switch {
	case Placed(q.Until) && q.From.InPast():
		return &telemetry.BadRequest{Parameter: "to", Detail: "is a place in the log while from is a time: use two times or two cursors"}
	case Placed(q.Until) && !Placed(q.From):
		return &telemetry.BadRequest{Parameter: "to", Detail: "is a place in the log: give from as well"}
	case !q.To.IsZero() && q.From.InPast() && !q.From.Time.Before(q.To):
		return &telemetry.BadRequest{Parameter: "to", Detail: "is not after from"}
	}
	return nil
}

// wants says whether the query wants the reading, and takes out of it the
// metrics not asked for.
func (q *Query) wants(r *telemetry.Reading) bool {
	return (q.To.IsZero() || r.Time.Before(q.To)) && q.Filter.Project(r)
}

// verbatim says whether the query wants readings as they stand, so that they
// need not be parsed.
func (q *Query) verbatim() bool { return q.To.IsZero() && q.Filter.All() }

// clip quotes text for an error message, shortened: the sender chose it.
func clip(text string) string {
	const most = 64
	if len(text) > most {
		return fmt.Sprintf("%q…", text[:most])
	}
	return fmt.Sprintf("%q", text)
}
