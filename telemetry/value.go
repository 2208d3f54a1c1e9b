package telemetry

import (
	"math"
	"strconv"
)

// Kind is the kind of a [Value].
type Kind uint8

// The kinds there are. The zero Kind is no value.
const (
	KindNone Kind = iota
	KindNumber
	KindText
	KindBool
)

// Value is one measured value: a finite IEEE 754 double, a text, or a boolean.
// The zero Value is none of them and is never stored.
type Value struct {
	text   string
	number float64
	kind   Kind
}

// Number is a numeric value. JSON knows no NaN and no infinity: Check refuses them.
func Number(f float64) Value { return Value{number: f, kind: KindNumber} }

// Text is a string value.
func Text(s string) Value { return Value{text: s, kind: KindText} }

// Bool is a boolean value.
func Bool(b bool) Value {
	if b {
		return Value{number: 1, text: "true", kind: KindBool}
	}
	return Value{number: 0, text: "false", kind: KindBool}
}

// Kind of the value.
func (v Value) Kind() Kind { return v.kind }

// Number is the double of a number, 1 or 0 of a boolean, and 0 of a text.
func (v Value) Number() float64 { return v.number }

// Text is the string of a text, "true" or "false" of a boolean, and "" of a number.
func (v Value) Text() string { return v.text }

// Bool is true for the boolean true.
func (v Value) Bool() bool { return v.kind == KindBool && v.number == 1 }

// HasNumber says whether the value fills SQL's column value: numbers and booleans do.
func (v Value) HasNumber() bool { return v.kind == KindNumber || v.kind == KindBool }

// HasText says whether the value fills SQL's column text: texts and booleans do.
func (v Value) HasText() bool { return v.kind == KindText || v.kind == KindBool }

// Stored is the value that SQL's two columns hold: the inverse of HasNumber and
// HasText. A nil pair is the zero Value.
func Stored(number *float64, text *string) Value {
	switch {
	case number != nil && text != nil:
		return Bool(*number == 1)
	case number != nil:
		return Number(*number)
	case text != nil:
		return Text(*text)
	}
	return Value{}
}

// Equal says whether two values are the same: of one kind, and bit for bit the
// same double (0 and -0 count as the same, as they do in SQL) or the same text.
func (v Value) Equal(w Value) bool { return v == w }

// AppendJSON appends the value's canonical JSON. The value must not be zero,
// NaN or infinite.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case KindText:
		return appendString(dst, v.text)
	case KindBool:
		return append(dst, v.text...)
	case KindNumber:
		return appendNumber(dst, v.number)
	}
	return append(dst, "null"...)
}

// appendNumber appends f in the form ECMAScript and encoding/json use: the
// shortest digits that read back the same.
func appendNumber(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	if abs < 1e15 && f == math.Trunc(f) && (f != 0 || !math.Signbit(f)) {
		return strconv.AppendInt(dst, int64(f), 10)
	}
	if abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
		if n := len(dst); n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
			dst[n-2] = dst[n-1] // e-09 is e-9
			dst = dst[:n-1]
		}
		return dst
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}
