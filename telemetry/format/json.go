package format

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/telemetry"
)

// JSON: an object is one reading, an array of objects is many.
//
//	{"device":"truck-7","time":"2026-11-21T22:00:00Z","values":{"speed":61.2,"state":"moving"}}
//	{"ts":1763762400123,"speed":61.2,"engine":{"rpm":2100,"temperatures":[88,91]}}
//
// At the top of a reading "device" is the device, "time" or "ts" is the time
// (RFC 3339, or a number since 1970 in s, ms, µs or ns, told by magnitude), the
// members of "values" are metrics, and every other member is a metric too.
// Objects are flattened with dots, arrays likewise by index: engine.rpm,
// engine.temperatures.0. Null says that there is no value, so it is ignored;
// a reading of nulls alone is refused for having none.
//
// The grammar is RFC 8259's, strictly: a name twice in one object, invalid
// UTF-8, a number beyond a double and anything behind the document are refused.
// An array that is broken anywhere is refused as a whole.

// jsonReader reads JSON with what the last payload left for reuse. Arrays need
// two decoders: one that cuts the document, one that reads the item.
type jsonReader struct {
	outer, inner       *jsontext.Decoder
	outerSrc, innerSrc *bytes.Buffer
}

// open points a decoder at b, without copying it: jsontext reads a
// [bytes.Buffer] in place.
func open(d **jsontext.Decoder, src **bytes.Buffer, b []byte, options ...jsontext.Options) *jsontext.Decoder {
	if *d == nil {
		*src = bytes.NewBuffer(b)
		*d = jsontext.NewDecoder(*src, options...)
		return *d
	}
	**src = *bytes.NewBuffer(b)
	(*d).Reset(*src, options...)
	return *d
}

// forget drops the decoders after a large payload, which they would hold on to.
func (r *jsonReader) forget(size int) {
	if size > 64<<10 {
		*r = jsonReader{}
	}
}

func (d *Decoder) decodeJSON(payload []byte) *telemetry.Refusal {
	document := trimSpace(payload)
	if len(document) == 0 {
		return telemetry.Refuse(telemetry.ReasonMalformed, "the payload is empty: send a JSON object")
	}
	if document[0] == '[' {
		return d.decodeArray(document)
	}
	d.give(payload, d.object(document))
	return nil
}

func (d *Decoder) decodeArray(document []byte) *telemetry.Refusal {
	// Only the document's grammar is at stake here. Doubled names and invalid
	// UTF-8 are for the item they are in.
	outer := open(&d.json.outer, &d.json.outerSrc, document,
		jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := outer.ReadToken(); err != nil {
		return notJSON(err)
	}
	for outer.PeekKind() != ']' {
		raw, err := outer.ReadValue()
		if err != nil {
			return notJSON(err)
		}
		if refused := d.full(d.next); refused != nil {
			return refused
		}
		if !d.give(raw, d.object(raw)) {
			return nil
		}
	}
	if _, err := outer.ReadToken(); err != nil {
		return notJSON(err)
	}
	return trailing(outer)
}

// trailing refuses what stands behind a document.
func trailing(r *jsontext.Decoder) *telemetry.Refusal {
	if _, err := r.ReadToken(); errors.Is(err, io.EOF) {
		return nil
	}
	return telemetry.Refuse(telemetry.ReasonMalformed,
		"something follows the JSON document at byte %d: send an array, or NDJSON with one object a line", r.InputOffset())
}

// object puts the JSON object raw into the reading.
func (d *Decoder) object(raw []byte) *telemetry.Refusal {
	if d.quickObject(raw) {
		return nil
	}
	d.begin()
	return d.carefulObject(raw)
}

func (d *Decoder) carefulObject(raw []byte) *telemetry.Refusal {
	inner := open(&d.json.inner, &d.json.innerSrc, raw)
	kind := inner.PeekKind()
	if kind == 0 { // invalid, or nothing at all
		_, err := inner.ReadToken()
		return notJSON(err)
	}
	if kind != '{' {
		return telemetry.Refuse(telemetry.ReasonMalformed,
			"a reading is a JSON object, not %s: send {\"values\":{\"name\":1}}", kindName(kind))
	}
	if refused := d.top(inner); refused != nil {
		return refused
	}
	return trailing(inner)
}

// top reads the object that is the reading.
func (d *Decoder) top(r *jsontext.Decoder) *telemetry.Refusal {
	if _, err := r.ReadToken(); err != nil {
		return notJSON(err)
	}
	for r.PeekKind() != '}' {
		if refused := d.key(r, 0); refused != nil {
			return refused
		}
		var refused *telemetry.Refusal
		switch string(d.path) {
		case "device":
			refused = d.readDevice(r)
		case "time", "ts":
			refused = d.readTime(r)
		case "values":
			refused = d.readValues(r)
		default:
			refused = d.member(r, 1)
		}
		if refused != nil {
			return refused
		}
	}
	_, err := r.ReadToken()
	return notJSON(err)
}

// key reads a member's name to the end of path, behind its first from bytes.
func (d *Decoder) key(r *jsontext.Decoder, from int) *telemetry.Refusal {
	quoted, err := r.ReadValue()
	if err != nil {
		return notJSON(err)
	}
	if d.path, err = jsontext.AppendUnquote(d.path[:from], quoted); err != nil {
		return notJSON(err)
	}
	if len(d.path) > telemetry.MaxMetricName {
		return telemetry.Refuse(telemetry.ReasonLimit,
			"a metric name of %d bytes is longer than %d", len(d.path), telemetry.MaxMetricName)
	}
	return nil
}

func (d *Decoder) readDevice(r *jsontext.Decoder) *telemetry.Refusal {
	kind := r.PeekKind()
	raw, err := r.ReadValue()
	switch {
	case err != nil:
		return notJSON(err)
	case kind == 'n':
		return nil
	case kind != '"':
		return telemetry.Refuse(telemetry.ReasonDevice, "device is %s: send the name as a string", kindName(kind))
	}
	if d.scratch, err = jsontext.AppendUnquote(d.scratch[:0], raw); err != nil {
		return notJSON(err)
	}
	if len(d.scratch) == 0 {
		return telemetry.Refuse(telemetry.ReasonDevice, "device is empty: name it or leave it out")
	}
	d.reading.Device = d.names.text(d.scratch)
	return nil
}

func (d *Decoder) readTime(r *jsontext.Decoder) *telemetry.Refusal {
	kind := r.PeekKind()
	raw, err := r.ReadValue()
	switch {
	case err != nil:
		return notJSON(err)
	case kind == 'n':
		return nil
	case kind != '"' && kind != '0':
		return telemetry.Refuse(telemetry.ReasonTime, "%s is %s: send RFC 3339 or a number since 1970", d.path, kindName(kind))
	case !d.reading.Time.IsZero():
		return telemetry.Refuse(telemetry.ReasonTime, "the reading has both time and ts: send one")
	}
	var refused *telemetry.Refusal
	if kind == '0' {
		d.reading.Time, refused = instantOf(raw)
	} else {
		if d.scratch, err = jsontext.AppendUnquote(d.scratch[:0], raw); err != nil {
			return notJSON(err)
		}
		d.reading.Time, refused = instantText(d.scratch)
	}
	if refused != nil {
		return refused
	}
	return given(d.reading.Time)
}

func (d *Decoder) readValues(r *jsontext.Decoder) *telemetry.Refusal {
	switch kind := r.PeekKind(); kind {
	case '{':
		d.path = d.path[:0]
		return d.flattenObject(r, 2)
	case 'n':
		_, err := r.ReadToken()
		return notJSON(err)
	case 0:
		_, err := r.ReadToken()
		return notJSON(err)
	default:
		return telemetry.Refuse(telemetry.ReasonMalformed,
			"values is %s: send an object of metrics, or the metrics beside device and time", kindName(kind))
	}
}

// member reads the value of the metric, or of the group of metrics, named by path.
func (d *Decoder) member(r *jsontext.Decoder, depth int) *telemetry.Refusal {
	switch r.PeekKind() {
	case '{':
		d.path = append(d.path, '.')
		return d.flattenObject(r, depth+1)
	case '[':
		d.path = append(d.path, '.')
		return d.flattenArray(r, depth+1)
	}
	raw, err := r.ReadValue()
	if err != nil {
		return notJSON(err)
	}
	return d.scalar(raw)
}

func (d *Decoder) scalar(raw []byte) *telemetry.Refusal {
	var v telemetry.Value
	var refused *telemetry.Refusal
	switch raw[0] {
	case 'n':
		return nil
	case 't', 'f':
		v = telemetry.Bool(raw[0] == 't')
	case '"':
		var err error
		if d.scratch, err = jsontext.AppendUnquote(d.scratch[:0], raw); err != nil {
			return notJSON(err)
		}
		v, refused = d.text(d.path, d.scratch)
	default:
		v, refused = number(d.path, raw)
	}
	if refused != nil {
		return refused
	}
	return d.add(d.names.text(d.path), v)
}

func (d *Decoder) flattenObject(r *jsontext.Decoder, depth int) *telemetry.Refusal {
	if refused := d.enter(r, depth); refused != nil {
		return refused
	}
	prefix := len(d.path)
	for r.PeekKind() != '}' {
		if refused := d.key(r, prefix); refused != nil {
			return refused
		}
		if refused := d.member(r, depth); refused != nil {
			return refused
		}
	}
	_, err := r.ReadToken()
	return notJSON(err)
}

func (d *Decoder) flattenArray(r *jsontext.Decoder, depth int) *telemetry.Refusal {
	if refused := d.enter(r, depth); refused != nil {
		return refused
	}
	prefix := len(d.path)
	for i := 0; r.PeekKind() != ']'; i++ {
		d.path = strconv.AppendInt(d.path[:prefix], int64(i), 10)
		if refused := d.member(r, depth); refused != nil {
			return refused
		}
	}
	_, err := r.ReadToken()
	return notJSON(err)
}

// enter reads the token that opens an object or array, if there may be one more.
func (d *Decoder) enter(r *jsontext.Decoder, depth int) *telemetry.Refusal {
	if depth > d.config.Limits.Depth {
		return telemetry.Refuse(telemetry.ReasonLimit,
			"more than %d objects and arrays inside each other: flatten the reading", d.config.Limits.Depth)
	}
	_, err := r.ReadToken()
	return notJSON(err)
}

// notJSON is the refusal for jsontext's error, nil for none.
func notJSON(err error) *telemetry.Refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return telemetry.Refuse(telemetry.ReasonMalformed, "the JSON ends in the middle: send it whole")
	case errors.Is(err, jsontext.ErrDuplicateName):
		return telemetry.Refuse(telemetry.ReasonMalformed, "%s: send each name once", sentence(err, "jsontext: "))
	}
	return telemetry.Refuse(telemetry.ReasonMalformed, "not JSON: %s", sentence(err, "jsontext: "))
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "no JSON"
}
