package format

import (
	"math"
	"strconv"

	"millrace/telemetry"
)

// quick reads the JSON objects that devices send most: flat, or with their
// metrics under "values", strings of plain ASCII without escapes. It is several
// times as fast as a general decoder, and it never refuses: whatever it is not
// sure of, it leaves to [Decoder.object], which knows all of JSON. A fuzz test
// holds the two equal (FuzzQuickEqualsCareful).
type quick struct {
	d      *Decoder
	b      []byte
	at     int
	values bool // "values" was seen
	timed  bool // "time" or "ts" was seen
}

// quickObject puts the object into the reading. After false the reading holds
// garbage and the careful decoder must begin again.
func (d *Decoder) quickObject(raw []byte) bool {
	d.begin()
	q := quick{d: d, b: raw}
	if !q.skip('{') || !q.members(true) {
		return false
	}
	q.space()
	return q.at == len(q.b)
}

func (q *quick) space() {
	for q.at < len(q.b) && isSpace(q.b[q.at]) {
		q.at++
	}
}

// skip goes over white space and c, if c is next.
func (q *quick) skip(c byte) bool {
	q.space()
	if q.at == len(q.b) || q.b[q.at] != c {
		return false
	}
	q.at++
	return true
}

// members reads behind the brace that opens an object, over the one that closes it.
func (q *quick) members(top bool) bool {
	for {
		name, ok := q.text()
		if !ok || !q.skip(':') {
			return false
		}
		q.space()
		if !q.member(name, top) {
			return false
		}
		if q.skip('}') {
			return true
		}
		if !q.skip(',') {
			return false
		}
	}
}

func (q *quick) member(name []byte, top bool) bool {
	if top {
		switch string(name) {
		case "device":
			return q.device()
		case "time", "ts":
			return q.time()
		case "values":
			again := q.values
			q.values = true
			return !again && q.skip('{') && q.members(false)
		}
	}
	v, ok := q.value()
	if !ok || len(q.d.reading.Metrics) == telemetry.MaxMetrics || len(name) > telemetry.MaxMetricName {
		return false
	}
	q.d.reading.Metrics = append(q.d.reading.Metrics, telemetry.Metric{Name: q.d.names.text(name), Value: v})
	return true
}

func (q *quick) device() bool {
	text, ok := q.text()
	if !ok || len(text) == 0 || q.d.reading.Device != "" {
		return false
	}
	q.d.reading.Device = q.d.names.text(text)
	return true
}

func (q *quick) time() bool {
	if q.timed || q.at == len(q.b) {
		return false
	}
	q.timed = true
	if q.b[q.at] == '"' {
		text, ok := q.text()
		return ok && q.d.reading.Time.UnmarshalText(text) == nil && !q.d.reading.Time.IsZero()
	}
	from := q.at
	if _, ok := q.number(); !ok || q.at-from > 18 {
		return false
	}
	n := int64(0)
	for _, c := range q.b[from:q.at] {
		if c < '0' || c > '9' {
			return false // signs and fractions are for the careful decoder
		}
		n = n*10 + int64(c-'0')
	}
	q.d.reading.Time = instant(n)
	return true
}

// text reads a string without escapes; what it returns is part of the payload.
func (q *quick) text() ([]byte, bool) {
	if !q.skip('"') {
		return nil, false
	}
	from := q.at
	for ; q.at < len(q.b); q.at++ {
		switch c := q.b[q.at]; {
		case c == '"':
			q.at++
			return q.b[from : q.at-1], true
		case c < ' ' || c == '\\' || c >= 0x80:
			return nil, false
		}
	}
	return nil, false
}

func (q *quick) value() (telemetry.Value, bool) {
	if q.at == len(q.b) {
		return telemetry.Value{}, false
	}
	switch q.b[q.at] {
	case '"':
		text, ok := q.text()
		if !ok || len(text) > telemetry.MaxText {
			return telemetry.Value{}, false
		}
		return telemetry.Text(q.d.texts.text(text)), true
	case 't':
		return telemetry.Bool(true), q.word("true")
	case 'f':
		return telemetry.Bool(false), q.word("false")
	}
	f, ok := q.number()
	return telemetry.Number(f), ok
}

func (q *quick) word(word string) bool {
	if len(q.b)-q.at < len(word) || string(q.b[q.at:q.at+len(word)]) != word {
		return false
	}
	q.at += len(word)
	return true
}

// digits reads decimal digits on top of mantissa and says how many there were.
// A mantissa of more than 18 digits overflows; the caller then does not use it.
func (q *quick) digits(mantissa uint64) (uint64, int) {
	from := q.at
	for q.at < len(q.b) && q.b[q.at]-'0' <= 9 {
		mantissa = mantissa*10 + uint64(q.b[q.at]-'0')
		q.at++
	}
	return mantissa, q.at - from
}

// number reads a number of JSON's grammar (RFC 8259 section 6).
func (q *quick) number() (float64, bool) {
	from := q.at
	negative := q.at < len(q.b) && q.b[q.at] == '-'
	if negative {
		q.at++
	}
	first := q.at
	mantissa, whole := q.digits(0)
	if whole == 0 || whole > 1 && q.b[first] == '0' {
		return 0, false
	}
	fraction := 0
	if q.at < len(q.b) && q.b[q.at] == '.' {
		q.at++
		if mantissa, fraction = q.digits(mantissa); fraction == 0 {
			return 0, false
		}
	}
	if q.at < len(q.b) && q.b[q.at]|0x20 == 'e' {
		return 0, false // rare: for the careful decoder
	}
	// Up to 15 digits and 22 decimals both are exact doubles, so that the quotient
	// is the correctly rounded one (Clinger 1990, as in strconv).
	if whole+fraction <= 15 {
		f := float64(mantissa) / powersOfTen[fraction]
		if negative {
			f = math.Copysign(f, -1)
		}
		return f, true
	}
	f, err := strconv.ParseFloat(string(q.b[from:q.at]), 64)
	return f, err == nil
}

var powersOfTen = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}
