package telemetry

import (
	"time"
	"unicode/utf8"
)

// AppendJSON appends the reading's canonical form: the bytes that stand in
// Kafka, on every screen and in every replay. Metrics are written as they
// stand; [Reading.Check] has put them in order. Allocates only to grow dst.
//
//	{"device":"truck-7","time":"2026-11-21T22:00:00.123456Z","values":{"lat":52.1,"speed":61.2}}
func (r *Reading) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"device":"`...)
	dst = append(dst, r.Device...) // a device name needs no escapes
	dst = append(dst, `","time":"`...)
	dst = AppendTime(dst, r.Time)
	dst = append(dst, `","values":{`...)
	for i := range r.Metrics {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, r.Metrics[i].Name)
		dst = append(dst, ':')
		dst = r.Metrics[i].Value.AppendJSON(dst)
	}
	return append(dst, "}}"...)
}

// AppendTime appends t in the canonical form: RFC 3339 in UTC with exactly six
// digits of a second, so that times sort as text.
func AppendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = appendDigits(dst, year, 4)
	dst = append(dst, '-')
	dst = appendDigits(dst, int(month), 2)
	dst = append(dst, '-')
	dst = appendDigits(dst, day, 2)
	dst = append(dst, 'T')
	dst = appendDigits(dst, hour, 2)
	dst = append(dst, ':')
	dst = appendDigits(dst, minute, 2)
	dst = append(dst, ':')
	dst = appendDigits(dst, second, 2)
	dst = append(dst, '.')
	dst = appendDigits(dst, t.Nanosecond()/1000, 6)
	return append(dst, 'Z')
}

// appendDigits appends n in decimal, with leading zeros to the given width.
func appendDigits(dst []byte, n, width int) []byte {
	var digits [20]byte
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, digits[:width]...)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string with as few escapes as RFC 8259
// section 7 allows: quote, backslash and the control characters. U+2028, U+2029
// and DEL pass as they are. Invalid UTF-8 is written as U+FFFD; Check has
// refused it before.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		dst = appendEscape(dst, c)
		i++
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
