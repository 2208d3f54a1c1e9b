// Package format turns what devices speak into readings. One file, one form;
// each says at its top what of the form becomes what of a reading.
//
//	payload ──Decoder.Decode(form)──▶ Item{reading}  ─▶ the gate checks it
//	                                ▶ Item{refusal}  ─▶ the gate keeps its bytes
//
// Its invariant: every byte of a payload ends in a reading, in a refusal, or in
// an error for the whole payload; nothing is skipped in silence but what a form
// itself says has no meaning (null values, units, comments).
//
// Decoders check their form's grammar and the limits that keep memory bounded.
// What a reading may be is decided by [telemetry.Reading.Check] alone; a caller
// runs it on every reading it gets from here.
package format

import (
	"fmt"
	"mime"
	"strings"
	"time"

	"millrace/telemetry"
)

// Form is a way to write readings down.
type Form uint8

// The forms there are. The zero Form is none.
const (
	None      Form = iota
	JSON           // one object is one reading, an array is many
	NDJSON         // one JSON object a line
	SenML          // SenML JSON, RFC 8428 section 5
	SenMLCBOR      // SenML CBOR, RFC 8428 section 6
	Line           // InfluxDB line protocol
	Value          // one bare value; device and metric come from elsewhere
	Sparkplug      // Eclipse Sparkplug B 3.0 payload; its topic says the rest
)

var names = [...]string{"none", "json", "ndjson", "senml", "senml+cbor", "line", "value", "sparkplug"}

// String is the form's name: json, ndjson, senml, senml+cbor, line, value or
// sparkplug; none for the zero Form.
func (f Form) String() string {
	if int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("form %d", uint8(f))
}

// ParseForm is the form of that name. The error is a *[telemetry.BadRequest].
func ParseForm(name string) (Form, error) {
	for f := JSON; int(f) < len(names); f++ {
		if names[f] == name {
			return f, nil
		}
	}
	return None, &telemetry.BadRequest{
		Parameter: "form",
		Detail:    fmt.Sprintf("%.40q is none of %s", name, strings.Join(names[1:], ", ")),
	}
}

// Lines says whether the form is made of lines that stand for themselves, so
// that a long text can be decoded in parts cut behind any newline.
func (f Form) Lines() bool { return f == NDJSON || f == Line }

// contentTypes maps media types to forms; the first of each form is the one to advertise.
var contentTypes = []struct {
	media string
	form  Form
}{
	{"application/json", JSON},
	{"text/json", JSON},
	{"application/x-ndjson", NDJSON},
	{"application/ndjson", NDJSON},
	{"application/jsonl", NDJSON},
	{"application/json-seq", None}, // RFC 7464 frames with 0x1E: not NDJSON
	{"application/senml+json", SenML},
	{"application/senml+cbor", SenMLCBOR},
	{"application/vnd.influx.line", Line},
	{"text/vnd.influx.line-protocol", Line},
	{"text/plain", Line}, // what Telegraf and the InfluxDB clients send
}

// FormOf is the form of a Content-Type, parameters ignored. It is false for a
// type that is none of [ContentTypes].
func FormOf(contentType string) (Form, bool) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && media == "" {
		return None, false
	}
	for _, c := range contentTypes {
		if c.media == media {
			return c.form, c.form != None
		}
	}
	return None, false
}

// ContentTypes are the media types that [FormOf] knows, in a stable order.
func ContentTypes() []string {
	var list []string
	for _, c := range contentTypes {
		if c.form != None {
			list = append(list, c.media)
		}
	}
	return list
}

// Limits bound what one payload may cost. Reaching one is a refusal with
// [telemetry.ReasonLimit] that names it.
type Limits struct {
	Items int // readings and refusals a payload; default 10,000
	Depth int // objects and arrays inside each other, counted from the reading; default 16
}

func (l Limits) orDefault() Limits {
	if l.Items <= 0 {
		l.Items = 10_000
	}
	if l.Depth <= 0 {
		l.Depth = 16
	}
	return l
}

// Config of a [Decoder].
type Config struct {
	Limits Limits
	// DeviceTags are the line protocol tags that name the device, the first
	// present one wins. Default: device, device_id, host.
	DeviceTags []string
	// Aliases are the Sparkplug births seen so far, shared by all decoders of a
	// gate. Nil: this decoder has its own.
	Aliases *Aliases
}

// Base is what is known of a payload beside its bytes.
type Base struct {
	Device   string    // named by topic, path or login; "" if the payload names devices
	Metric   string    // for [Value]: the metric; "" is "value"
	Topic    string    // for [Sparkplug]: the MQTT topic
	Received time.Time // the time of receipt: SenML's relative times start here
	// Precision is the unit of integer times in line protocol. 0: told apart by
	// magnitude, as everywhere else.
	Precision time.Duration
}

// Item is one thing that a payload says: a reading, or why it cannot be one.
type Item struct {
	Index int // from 0, in the payload's order
	// Reading is nil exactly if Refused is not. It belongs to the decoder and
	// changes with the next item. Device is "" and Time is zero where the payload
	// gives none. It is not checked.
	Reading *telemetry.Reading
	Refused *telemetry.Refusal
	// Raw is the item's part of the payload, byte for byte: alone it would decode
	// to the same item. It is nil where the form cannot be split (SenML,
	// Sparkplug): then the whole payload stands for the item.
	Raw []byte
}
