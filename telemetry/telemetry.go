// Package telemetry holds the nouns every other package speaks of, and their
// canonical forms. It knows no network, no database and no log.
//
//	a device says        the log gives it
//	a Reading  ──Entry──▶ a Position  ──▶ a Record ──▶ sink, hub, replay
//
// Its invariant: a [Reading] that passed [Reading.Check] has exactly one
// canonical form, and [ParseReading] of that form gives back the same Reading.
package telemetry

import (
	"time"
)

// Limits of a reading. They are part of the interface: a reading inside them
// is accepted, stored and shown by every part of Millrace.
const (
	MaxDeviceName = 128       // bytes of a device name
	MaxMetricName = 256       // bytes of a metric name, after flattening
	MaxText       = 64 << 10  // bytes of a text value
	MaxMetrics    = 512       // metrics a reading
	MaxReading    = 768 << 10 // bytes of a reading's canonical form
	MaxAhead      = time.Hour // how far a device's clock may run ahead
)

// MinTime is the earliest time a reading may carry.
var MinTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Metric is one measured value and its name.
type Metric struct {
	Name  string
	Value Value
}

// Reading is what a device said at one instant: one or more metrics.
//
// Time is UTC in whole microseconds; the zero Time means that the device gave
// none. Metrics are in byte order of their names, each name once, once
// [Reading.Check] has passed.
type Reading struct {
	Device  string
	Time    time.Time
	Metrics []Metric
}

// Value of the metric name, and whether the reading has it.
func (r *Reading) Value(name string) (Value, bool) {
	for i := range r.Metrics {
		if r.Metrics[i].Name == name {
			return r.Metrics[i].Value, true
		}
	}
	return Value{}, false
}

// Place of the reading: its metrics lat and lon, where both are numbers within
// ±90 and ±180 degrees.
func (r *Reading) Place() (lat, lon float64, ok bool) {
	a, okA := r.Value("lat")
	o, okO := r.Value("lon")
	if !okA || !okO || a.Kind() != KindNumber || o.Kind() != KindNumber {
		return 0, 0, false
	}
	lat, lon = a.Number(), o.Number()
	ok = lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180
	return lat, lon, ok
}

// Entry is what is appended to the log: a reading in its canonical form, or a
// dead letter. It is the log's property from Append until done is called; until
// then nobody may change Value.
type Entry struct {
	// Device is the log's key. All entries of one device share a partition and
	// keep their order. It may be empty for a dead letter of an unknown device.
	Device string
	// Value is the reading in canonical JSON, or a dead letter's original bytes.
	Value []byte
	// Received is the time of receipt.
	Received time.Time
	// Dead says why this could not be accepted; nil for a reading.
	Dead *DeadLetter
}

// DeadLetter says why an entry could not be accepted, and whence it came.
type DeadLetter struct {
	Reason Reason // one word, for counting
	Detail string // one sentence, for people: names what is wrong and the remedy
	Source string // the door: mqtt, http, bridge
	Topic  string // the MQTT topic or the HTTP path
	Client string // the MQTT client id or the remote address
}

// Reason classes dead letters. The words are stable: they stand in Kafka
// headers, in SQL and in metric labels.
type Reason string

// The reasons there are.
const (
	ReasonMalformed Reason = "malformed" // the bytes are not of their format
	ReasonDevice    Reason = "device"    // no device name, or one out of form
	ReasonTime      Reason = "time"      // before 2000 or more than an hour ahead
	ReasonLimit     Reason = "limit"     // more or larger than a limit allows
	ReasonDenied    Reason = "denied"    // the client may not publish for the device
	ReasonTopic     Reason = "topic"     // the topic is outside every pattern
	ReasonConflict  Reason = "conflict"  // the device said another value for this time
	ReasonStore     Reason = "store"     // the database refused the value
)

// Position is the place of a record in its topic.
type Position struct {
	Partition int32
	Offset    int64
}

// Record is an entry that has its place in the log.
type Record struct {
	Position
	Entry
}
