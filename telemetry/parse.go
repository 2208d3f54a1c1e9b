package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// ParseReading reads a reading from its JSON into r. The canonical form takes a
// fast path without allocations where r already holds a reading of the same
// device and metrics: r's strings and its Metrics are reused, so keep one r for
// each stream of records and copy what must outlive the next call. Any other
// JSON object with the members device, time and values is read as well; the
// caller decides by [Reading.Check] whether it is a reading.
//
// The error is a *[Refusal] with [ReasonMalformed], and r is then undefined.
func ParseReading(b []byte, r *Reading) error {
	if len(b) > MaxReading {
		return Refuse(ReasonLimit, "a reading of %d bytes is longer than %d", len(b), MaxReading)
	}
	if parseCanonical(b, r) {
		return nil
	}
	r.Device, r.Time, r.Metrics = "", time.Time{}, r.Metrics[:0]
	if err := parseAny(b, r); err != nil {
		return Refuse(ReasonMalformed, "not a reading: %v", err)
	}
	return nil
}

// scanner walks over the canonical form. Once ok is false it stays so and
// nothing read counts: the general parser decides then.
type scanner struct {
	rest []byte
	ok   bool
}

func parseCanonical(b []byte, r *Reading) bool {
	s := scanner{rest: b, ok: true}
	s.literal(`{"device":"`)
	r.Device = reuse(r.Device, s.plain())
	s.literal(`,"time":"`)
	r.Time = s.time()
	s.literal(`","values":{`)
	old := r.Metrics[:cap(r.Metrics)]
	r.Metrics = r.Metrics[:0]
	for i := 0; s.ok; i++ {
		var m Metric
		if i < len(old) {
			m = old[i]
		}
		s.literal(`"`)
		m.Name = reuse(m.Name, s.plain())
		s.literal(`:`)
		m.Value = s.value(m.Value)
		r.Metrics = append(r.Metrics, m)
		if !s.next(',') {
			break
		}
	}
	s.literal(`}}`)
	return s.ok && len(s.rest) == 0
}

// reuse is old where it has the bytes of b, so that a stream of like readings
// allocates no strings.
func reuse(old string, b []byte) string {
	if old == string(b) { // the compiler compares without allocating
		return old
	}
	return string(b)
}

func (s *scanner) literal(text string) {
	if s.ok && len(s.rest) >= len(text) && string(s.rest[:len(text)]) == text {
		s.rest = s.rest[len(text):]
		return
	}
	s.ok = false
}

func (s *scanner) next(c byte) bool {
	if s.ok && len(s.rest) > 0 && s.rest[0] == c {
		s.rest = s.rest[1:]
		return true
	}
	return false
}

// plain is a string's bytes up to and without its closing quote: printable
// ASCII without escapes. Anything else is left to the general parser.
func (s *scanner) plain() []byte {
	for i, c := range s.rest {
		if c == '"' && s.ok {
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text
		}
		if c < ' ' || c >= 0x7f || c == '\\' {
			break
		}
	}
	s.ok = false
	return nil
}

func (s *scanner) value(old Value) Value {
	if !s.ok || len(s.rest) == 0 {
		s.ok = false
		return Value{}
	}
	switch s.rest[0] {
	case '"':
		s.rest = s.rest[1:]
		return Text(reuse(old.text, s.plain()))
	case 't':
		s.literal("true")
		return Bool(true)
	case 'f':
		s.literal("false")
		return Bool(false)
	}
	return Number(s.number())
}

// powers of ten that a double holds exactly.
var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// number reads a JSON number. With at most 15 digits and no exponent, digits
// and power of ten are both exact doubles, so that one division rounds as
// strconv does; all else goes to strconv.
func (s *scanner) number() float64 {
	b, i := s.rest, 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	start, digits, fraction, mantissa := i, 0, -1, uint64(0)
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c >= '0' && c <= '9':
			mantissa = mantissa*10 + uint64(c-'0')
			digits++
			continue
		case c == '.' && fraction < 0 && digits > 0:
			fraction = digits
			continue
		case c == 'e' || c == 'E':
			return s.longNumber()
		}
		break
	}
	leadingZero := digits > 1 && b[start] == '0' && fraction != 1
	if digits == 0 || fraction == digits || leadingZero {
		s.ok = false
		return 0
	}
	if digits > 15 {
		return s.longNumber()
	}
	f := float64(mantissa)
	if fraction >= 0 {
		f /= powers[digits-fraction]
	}
	if start == 1 {
		f = -f
	}
	s.rest = b[i:]
	return f
}

func (s *scanner) longNumber() float64 {
	i := bytes.IndexAny(s.rest, ",}")
	if i < 0 || !jsontext.Value(s.rest[:i]).IsValid() {
		s.ok = false
		return 0
	}
	// ParseFloat keeps nothing of its argument but in an error, where it copies.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(s.rest), i), 64)
	s.ok = err == nil
	s.rest = s.rest[i:]
	return f
}

// time reads the 27 bytes of 2026-11-21T22:00:00.123456Z.
func (s *scanner) time() time.Time {
	const form = "0000-00-00T00:00:00.000000Z"
	if !s.ok || len(s.rest) < len(form) {
		s.ok = false
		return time.Time{}
	}
	var n [7]int // year, month, day, hour, minute, second, microsecond
	field := 0
	for i := range len(form) {
		c := s.rest[i]
		switch {
		case form[i] != '0' && c == form[i]:
			field++
		case form[i] == '0' && c >= '0' && c <= '9':
			n[field] = n[field]*10 + int(c-'0')
		default:
			s.ok = false
			return time.Time{}
		}
	}
	t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6]*1000, time.UTC)
	// time.Date would carry 31 February over into March.
	_, month, day := t.Date()
	s.ok = int(month) == n[1] && day == n[2] && n[3] < 24 && n[4] < 60 && n[5] < 60
	s.rest = s.rest[len(form):]
	return t
}

// parseAny reads any JSON object with the members device, time and values.
func parseAny(b []byte, r *Reading) error {
	d := jsontext.NewDecoder(bytes.NewReader(b))
	if err := object(d, func(name string) error { return r.member(d, name) }); err != nil {
		return err
	}
	if r.Time.IsZero() {
		return errors.New("it has no time")
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return nil
}

// object reads one JSON object and calls member at each member's value.
func object(d *jsontext.Decoder, member func(name string) error) error {
	open, err := d.ReadToken()
	if err != nil {
		return err
	}
	if open.Kind() != '{' {
		return fmt.Errorf("an object was expected, here is %s", open.Kind())
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

func (r *Reading) member(d *jsontext.Decoder, name string) error {
	if name == "values" {
		return object(d, func(name string) error {
			token, err := d.ReadToken()
			if err != nil {
				return err
			}
			value, err := valueOf(token)
			r.Metrics = append(r.Metrics, Metric{name, value})
			return err
		})
	}
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() != '"' {
		return fmt.Errorf("member %q is not a string", name)
	}
	switch name {
	case "device":
		r.Device = token.String()
	case "time":
		r.Time, err = time.Parse(time.RFC3339Nano, token.String())
		r.Time = r.Time.UTC()
	default:
		return fmt.Errorf("member %q is not one of device, time, values", name)
	}
	return err
}

func valueOf(token jsontext.Token) (Value, error) {
	switch token.Kind() {
	case '"':
		return Text(token.String()), nil
	case 't', 'f':
		return Bool(token.Kind() == 't'), nil
	case '0':
		f, err := strconv.ParseFloat(token.String(), 64)
		return Number(f), err
	}
	return Value{}, fmt.Errorf("a value is a number, a string or a boolean, not %s", token.Kind())
}
