package format

import (
	"time"

	"millrace/telemetry"
)

// Decoder decodes payloads one after the other and keeps what it can reuse:
// the reading, the names it has seen, scratch space. It is not safe for
// concurrent use; a pool of them is.
type Decoder struct {
	config  Config
	reading telemetry.Reading
	names   cache // of metrics and devices
	texts   cache // of short text values, apart, so that they cannot push names out
	json    jsonReader
	path    []byte // the name being built while an object is flattened
	scratch []byte // what a string is unquoted into
	yield   func(Item) bool
	next    int // index of the next item
}

// NewDecoder makes a decoder.
func NewDecoder(config Config) *Decoder {
	config.Limits = config.Limits.orDefault()
	if len(config.DeviceTags) == 0 {
		config.DeviceTags = []string{"device", "device_id", "host"}
	}
	if config.Aliases == nil {
		config.Aliases = NewAliases(0)
	}
	return &Decoder{config: config}
}

// Decode calls yield for each item of the payload, until yield answers false.
// An error is a *[telemetry.Refusal] of the whole payload: what was yielded
// before must then be discarded, as if it had never been said. The payload is
// not kept and not changed. A JSON object of numbers allocates nothing once its
// names have been seen.
func (d *Decoder) Decode(form Form, payload []byte, base Base, yield func(Item) bool) error {
	d.yield, d.next = yield, 0
	refused := d.decode(form, payload, base)
	d.yield = nil
	d.json.forget(len(payload))
	if refused != nil {
		return refused
	}
	return nil
}

func (d *Decoder) decode(form Form, payload []byte, base Base) *telemetry.Refusal {
	switch form {
	case JSON:
		return d.decodeJSON(payload)
	case NDJSON:
		return d.decodeNDJSON(payload)
	case SenML:
		return d.decodeSenML(payload, base)
	case SenMLCBOR:
		return d.decodeSenMLCBOR(payload, base)
	case Line:
		return d.decodeLines(payload, base)
	case Value:
		return d.decodeValue(payload, base)
	case Sparkplug:
		return d.decodeSparkplug(payload, base)
	}
	return telemetry.Refuse(telemetry.ReasonMalformed, "%s is not a form that can be decoded", form)
}

// begin empties the reading for the next item.
func (d *Decoder) begin() {
	d.reading.Device, d.reading.Time = "", time.Time{}
	d.reading.Metrics = d.reading.Metrics[:0]
}

// add puts a metric into the reading. The limit is Check's; it stands here too
// so that a small payload cannot become a huge reading before Check sees it.
func (d *Decoder) add(name string, v telemetry.Value) *telemetry.Refusal {
	if len(d.reading.Metrics) == telemetry.MaxMetrics {
		return telemetry.Refuse(telemetry.ReasonLimit, "more than %d metrics in a reading: split it", telemetry.MaxMetrics)
	}
	d.reading.Metrics = append(d.reading.Metrics, telemetry.Metric{Name: name, Value: v})
	return nil
}

// give yields the reading, or the refusal in its place, as the next item. It is
// false when the caller wants no more.
func (d *Decoder) give(raw []byte, refused *telemetry.Refusal) bool {
	index := d.next
	d.next++
	return d.giveAt(index, raw, refused)
}

func (d *Decoder) giveAt(index int, raw []byte, refused *telemetry.Refusal) bool {
	item := Item{Index: index, Raw: raw, Refused: refused}
	if refused == nil {
		item.Reading = &d.reading
	}
	return d.yield(item)
}

// full says that index is one item too many.
func (d *Decoder) full(index int) *telemetry.Refusal {
	if index < d.config.Limits.Items {
		return nil
	}
	return telemetry.Refuse(telemetry.ReasonLimit, "more than %d items in a message: split it", d.config.Limits.Items)
}
