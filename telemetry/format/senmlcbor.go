package format

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"github.com/fxamacker/cbor/v2"

	"millrace/telemetry"
)

// SenML in CBOR, RFC 8428 section 6: the same pack, with integers for labels
// (table 4). A data value (vd) is bytes here; it becomes the base64url text
// that the JSON form would carry.

// senmlLabels are RFC 8428's table 4, from label -6 to 8.
var senmlLabels = [...]string{"bs", "bv", "bu", "bt", "bn", "bver", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"}

const senmlFirstLabel = -6

// cborMode refuses what a record never needs, so that a small payload cannot
// become much memory: deep nesting, large maps, doubled labels.
func cborMode() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  4,
		MaxArrayElements: 64,
		MaxMapPairs:      64,
		IntDec:           cbor.IntDecConvertNone,
		UTF8:             cbor.UTF8RejectInvalid,
	}.DecMode()
}

func (d *Decoder) decodeSenMLCBOR(payload []byte, base Base) *telemetry.Refusal {
	mode, err := cborMode()
	if err != nil {
		return telemetry.Refuse(telemetry.ReasonMalformed, "no CBOR decoder: %v", err)
	}
	records, rest, ok := cborArray(payload)
	if !ok {
		return telemetry.Refuse(telemetry.ReasonMalformed, "a SenML pack is a CBOR array: this is not one")
	}
	p := d.newPack(base)
	fields := make(map[any]any, 8)
	for ; records != 0 && !p.finished; records-- {
		if records < 0 && len(rest) > 0 && rest[0] == 0xff { // the break that ends an indefinite array
			rest = rest[1:]
			break
		}
		clear(fields)
		if rest, err = mode.UnmarshalFirst(rest, &fields); err != nil {
			return telemetry.Refuse(telemetry.ReasonMalformed, "record %d is not a CBOR map: %s", p.index, sentence(err, "cbor: "))
		}
		rec, refused := cborRecord(fields)
		if refused == nil {
			refused = p.take(&rec)
		}
		if refused != nil {
			return refused
		}
	}
	if p.finished {
		return nil
	}
	if len(rest) > 0 {
		return telemetry.Refuse(telemetry.ReasonMalformed, "%d bytes follow the SenML pack: send one pack a message", len(rest))
	}
	p.flush()
	return nil
}

// cborArray reads the head of an array (RFC 8949 section 3): how many elements
// follow, -1 if a break ends them.
func cborArray(b []byte) (elements int64, rest []byte, ok bool) {
	if len(b) == 0 || b[0]>>5 != 4 {
		return 0, nil, false
	}
	low, b := b[0]&31, b[1:]
	size := 0
	switch {
	case low < 24:
		return int64(low), b, true
	case low <= 27:
		size = 1 << (low - 24)
	case low == 31:
		return -1, b, true
	}
	if size == 0 || len(b) < size {
		return 0, nil, false
	}
	var wide [8]byte
	copy(wide[8-size:], b)
	n := binary.BigEndian.Uint64(wide[:])
	return int64(n & (1<<62 - 1)), b[size:], n < 1<<62
}

func cborRecord(fields map[any]any) (rec record, refused *telemetry.Refusal) {
	for key, value := range fields {
		label, refused := cborLabel(key)
		if refused == nil && label != "" {
			refused = cborField(&rec, label, value)
		}
		if refused != nil {
			return rec, refused
		}
	}
	return rec, nil
}

// cborLabel is the JSON name of a label; "" for one to ignore.
func cborLabel(key any) (string, *telemetry.Refusal) {
	switch k := key.(type) {
	case int64:
		if k >= senmlFirstLabel && k < 0 {
			return senmlLabels[k-senmlFirstLabel], nil
		}
	case uint64:
		if k < uint64(len(senmlLabels)+senmlFirstLabel) {
			return senmlLabels[int64(k)-senmlFirstLabel], nil
		}
	case string:
		return "", mustUnderstand(k)
	}
	return "", nil
}

func cborField(rec *record, label string, value any) *telemetry.Refusal {
	if f := rec.number(label); f != nil {
		x, ok := cborNumber(value)
		if !ok {
			return senmlKind(label, "a number", fmt.Sprintf("a CBOR %T", value))
		}
		*f = field{x, true}
		return nil
	}
	switch v := value.(type) {
	case bool:
		if label == "vb" {
			rec.truth, rec.hasTruth = v, true
			return nil
		}
	case string:
		if label != "vb" && label != "vd" {
			rec.setText(label, v)
			return nil
		}
	case []byte:
		if label == "vd" {
			rec.setText(label, base64.RawURLEncoding.EncodeToString(v))
			return nil
		}
	}
	return telemetry.Refuse(telemetry.ReasonMalformed, "SenML label %s holds a CBOR %T", label, value)
}

func cborNumber(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case big.Int:
		f, _ := new(big.Float).SetInt(&v).Float64()
		return f, true
	case cbor.Tag:
		return cborDecimal(v)
	}
	return 0, false
}

// cborDecimal is a decimal fraction, RFC 8949 section 3.4.4.
func cborDecimal(tag cbor.Tag) (float64, bool) {
	const decimalFraction = 4
	pair, ok := tag.Content.([]any)
	if tag.Number != decimalFraction || !ok || len(pair) != 2 {
		return 0, false
	}
	exponent, okE := cborInteger(pair[0])
	mantissa, okM := cborInteger(pair[1])
	f, err := strconv.ParseFloat(fmt.Sprintf("%de%d", mantissa, exponent), 64)
	return f, okE && okM && err == nil
}

func cborInteger(value any) (int64, bool) {
	switch v := value.(type) {
	case int64:
		return v, true
	case uint64:
		return int64(v & math.MaxInt64), v <= math.MaxInt64
	}
	return 0, false
}
