package format

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/telemetry"
)

// Value: the payload is one value and nothing else; topic or path name device
// and metric, and the time is that of receipt. White space around it is cut.
//
//	21.5   -3   +4.0   .5   1e3       a number
//	true   false                      a boolean
//	"on"                              a JSON string: the text on
//	anything else                     a text, as it is
//
// NaN and infinities in any spelling are refused, for a sensor that says so has
// no value; so is a JSON object or array, which belongs to a topic without a
// metric; so is nothing.

func (d *Decoder) decodeValue(payload []byte, base Base) *telemetry.Refusal {
	d.begin()
	name := base.Metric
	if name == "" {
		name = "value"
	}
	d.path = append(d.path[:0], name...)
	v, refused := d.bare(trimSpace(payload))
	if refused == nil {
		refused = d.add(d.names.text(d.path), v)
	}
	d.give(payload, refused)
	return nil
}

func (d *Decoder) bare(b []byte) (telemetry.Value, *telemetry.Refusal) {
	if len(b) == 0 {
		return telemetry.Value{}, telemetry.Refuse(telemetry.ReasonMalformed, "the payload is empty: send a value")
	}
	if decimal(b) {
		return number(d.path, b)
	}
	switch {
	case string(b) == "true":
		return telemetry.Bool(true), nil
	case string(b) == "false":
		return telemetry.Bool(false), nil
	case notFinite(b):
		return telemetry.Value{}, telemetry.Refuse(telemetry.ReasonMalformed,
			"metric %.64q is not a finite number: leave it out", d.path)
	case b[0] == '{' || b[0] == '[':
		return telemetry.Value{}, telemetry.Refuse(telemetry.ReasonMalformed,
			"the payload is JSON, but a bare value is expected here: send objects to the topic without a metric")
	case b[0] == '"':
		var err error
		if d.scratch, err = jsontext.AppendUnquote(d.scratch[:0], b); err != nil {
			return telemetry.Value{}, notJSON(err)
		}
		return d.text(d.path, d.scratch)
	}
	return d.text(d.path, b)
}

// decimal says whether b is a decimal number, also in the forms that people
// and printf write and JSON does not know: +4, .5, 5., 007.
func decimal(b []byte) bool {
	i := 0
	if b[0] == '+' || b[0] == '-' {
		i++
	}
	whole := countDigits(b[i:])
	i += whole
	fraction := 0
	if i < len(b) && b[i] == '.' {
		fraction = countDigits(b[i+1:])
		i += 1 + fraction
	}
	if whole+fraction == 0 {
		return false
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		exponent := countDigits(b[i:])
		i += exponent
		return exponent > 0 && i == len(b)
	}
	return i == len(b)
}

func countDigits(b []byte) int {
	n := 0
	for n < len(b) && b[n]-'0' <= 9 {
		n++
	}
	return n
}

// notFinite recognises what strconv takes for NaN or an infinity, and the
// spellings of C libraries: nan, -nan(ind), 1.#INF.
func notFinite(b []byte) bool {
	if len(b) > 16 {
		return false
	}
	if f, err := strconv.ParseFloat(string(b), 64); err == nil {
		return f != f || f-f != 0
	}
	b = bytes.ToLower(bytes.TrimLeft(b, "+-"))
	return string(b) == "nan" || bytes.HasPrefix(b, []byte("nan(")) || bytes.HasPrefix(b, []byte("1.#"))
}
