package format

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"millrace/telemetry"
)

// Integers below these are seconds, milliseconds and microseconds since 1970;
// the others are nanoseconds. Each step is apart by a factor of a thousand, so
// that no time from 1973 to 5138 can be mistaken for another.
const (
	secondsBelow = 1e11
	millisBelow  = 1e14
	microsBelow  = 1e17
)

// instant is the time that an integer since 1970 means, told by its magnitude.
func instant(n int64) time.Time {
	switch {
	case n < secondsBelow && n > -secondsBelow:
		return time.Unix(n, 0)
	case n < millisBelow && n > -millisBelow:
		return time.UnixMilli(n)
	case n < microsBelow && n > -microsBelow:
		return time.UnixMicro(n)
	}
	return time.Unix(0, n)
}

// instantIn is the time that n units since 1970 mean; unit 0 is told by
// magnitude. It is false for a time that no calendar holds.
func instantIn(n int64, unit time.Duration) (time.Time, bool) {
	if unit <= 0 {
		return instant(n), true
	}
	whole, rest := n, int64(0)
	if per := int64(time.Second / unit); per > 0 {
		whole, rest = n/per, n%per*int64(unit)
	} else { // minutes and hours, which InfluxDB 1 knows
		by := int64(unit / time.Second)
		whole = min(max(n, -secondsBelow), secondsBelow) * by
	}
	return time.Unix(whole, rest), whole < secondsBelow && whole > -secondsBelow
}

// instantOf reads a JSON number as a time; fractions count to the microsecond.
func instantOf(number []byte) (time.Time, *telemetry.Refusal) {
	if n, err := strconv.ParseInt(string(number), 10, 64); err == nil {
		return instant(n), nil
	}
	f, err := strconv.ParseFloat(string(number), 64)
	abs := math.Abs(f)
	unit := time.Second
	switch {
	case err != nil || abs >= math.MaxInt64:
		return time.Time{}, telemetry.Refuse(telemetry.ReasonTime,
			"time %.40s is out of range: send seconds, ms, µs or ns since 1970, or RFC 3339", number)
	case abs >= microsBelow:
		unit = time.Nanosecond
	case abs >= millisBelow:
		unit = time.Microsecond
	case abs >= secondsBelow:
		unit = time.Millisecond
	}
	return instantFloat(f, unit), nil
}

// given refuses the one instant that stands for "no time given" inside.
func given(t time.Time) *telemetry.Refusal {
	if !t.IsZero() {
		return nil
	}
	return telemetry.Refuse(telemetry.ReasonTime, "time 0001-01-01 is before 2000-01-01: set the device's clock")
}

// instantFloat is f units since 1970, rounded to the microsecond. f must be
// within the range of a time in that unit.
func instantFloat(f float64, unit time.Duration) time.Time {
	if unit == time.Nanosecond {
		return time.Unix(0, int64(f))
	}
	whole := math.Floor(f)
	micros := math.Round((f - whole) * float64(unit/time.Microsecond))
	t, _ := instantIn(int64(whole), unit) // cannot fail: the unit is a second or less
	return t.Add(time.Duration(micros) * time.Microsecond)
}

// instantText reads RFC 3339.
func instantText(text []byte) (time.Time, *telemetry.Refusal) {
	var t time.Time
	if err := t.UnmarshalText(text); err != nil {
		return time.Time{}, telemetry.Refuse(telemetry.ReasonTime,
			"time %.40q is not RFC 3339: send 2026-11-21T22:00:00.123Z, or seconds, ms, µs or ns since 1970 as a number", text)
	}
	return t, nil
}

// number reads a decimal number that has the form of one. The refusal says that
// it is beyond what a double holds.
func number(name, text []byte) (telemetry.Value, *telemetry.Refusal) {
	f, err := strconv.ParseFloat(string(text), 64)
	switch {
	case err == nil:
		return telemetry.Number(f), nil
	case errors.Is(err, strconv.ErrRange):
		return telemetry.Value{}, telemetry.Refuse(telemetry.ReasonMalformed,
			"metric %.64q is %.40s, beyond the range of a double: send less than 1.8e308", name, text)
	}
	return telemetry.Value{}, telemetry.Refuse(telemetry.ReasonMalformed, "metric %.64q is %.40q, not a number", name, text)
}

// finite refuses NaN and infinities, which JSON and SQL comparisons cannot carry.
func finite(name []byte, f float64) (telemetry.Value, *telemetry.Refusal) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return telemetry.Value{}, telemetry.Refuse(telemetry.ReasonMalformed,
			"metric %.64q is not a finite number: leave it out", name)
	}
	return telemetry.Number(f), nil
}

// text is a text value, refused early if it is longer than any may be.
func (d *Decoder) text(name, b []byte) (telemetry.Value, *telemetry.Refusal) {
	if len(b) > telemetry.MaxText {
		return telemetry.Value{}, telemetry.Refuse(telemetry.ReasonLimit,
			"metric %.64q is a text of %d bytes, longer than %d", name, len(b), telemetry.MaxText)
	}
	return telemetry.Text(d.texts.text(b)), nil
}

// trimSpace cuts JSON's white space from both ends.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// sentence shortens a library's error to one line without its prefix.
func sentence(err error, prefix string) string {
	const most = 200
	text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), prefix), "\n", " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
