package format

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of sparkplug_b.proto. Only what a reading keeps is named; the
// rest is skipped by its wire type.
const (
	payloadTimestamp = 1
	payloadMetrics   = 2

	metricName      = 1
	metricAlias     = 2
	metricTimestamp = 3
	metricDatatype  = 4
	metricNull      = 7
	metricInt       = 10
	metricLong      = 11
	metricFloat     = 12
	metricDouble    = 13
	metricBoolean   = 14
	metricString    = 15
	metricLast      = 19 // 16 to 19 are bytes, data set, template, extension
)

// wireTypes are the wire types the fields above must have.
func wireType(number protowire.Number) protowire.Type {
	switch number {
	case metricName, metricString:
		return protowire.BytesType
	case metricFloat:
		return protowire.Fixed32Type
	case metricDouble:
		return protowire.Fixed64Type
	}
	return protowire.VarintType
}

// wireField is one field of a message.
type wireField struct {
	number protowire.Number
	kind   protowire.Type
	bits   uint64 // of a varint or a fixed
	bytes  []byte // of a string, bytes or message: part of the payload
}

// wireFields calls each for every field of a protobuf message. Groups, which
// Sparkplug does not have, are errors.
func wireFields(b []byte, each func(wireField)) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		f := wireField{number: number, kind: kind}
		switch kind {
		case protowire.VarintType:
			f.bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var bits uint32
			bits, n = protowire.ConsumeFixed32(b)
			f.bits = uint64(bits)
		case protowire.Fixed64Type:
			f.bits, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			return fmt.Errorf("field %d has wire type %d", number, kind)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		each(f)
	}
	return nil
}

// sparkMetric is a metric as it travels.
type sparkMetric struct {
	name      string
	alias     uint64
	timestamp uint64
	datatype  uint32
	aliased   bool
	timed     bool
	null      bool
	field     protowire.Number // which of the value fields is set; 0: none
	bits      uint64
	text      []byte
}

// typed says whether the value's field alone tells its datatype, as floats,
// doubles, booleans and strings do and integers do not.
func (m *sparkMetric) typed() bool { return m.field >= metricFloat && m.field <= metricString }

func readSparkMetric(b []byte) (m sparkMetric, err error) {
	wrong := protowire.Number(0)
	err = wireFields(b, func(f wireField) {
		known := f.number >= metricName && f.number <= metricDatatype ||
			f.number >= metricNull && f.number <= metricString && f.number != 8 && f.number != 9
		if known && f.kind != wireType(f.number) {
			wrong = f.number
			return
		}
		m.set(f)
	})
	switch {
	case err != nil:
		return m, err
	case wrong != 0:
		return m, fmt.Errorf("metric field %d has the wrong wire type", wrong)
	case !utf8.ValidString(m.name):
		return m, errors.New("a metric name is not UTF-8")
	}
	return m, nil
}

func (m *sparkMetric) set(f wireField) {
	switch f.number {
	case metricName:
		m.name = string(f.bytes)
	case metricAlias:
		m.alias, m.aliased = f.bits, true
	case metricTimestamp:
		m.timestamp, m.timed = f.bits, true
	case metricDatatype:
		m.datatype = uint32(f.bits)
	case metricNull:
		m.null = f.bits != 0
	default:
		if f.number >= metricInt && f.number <= metricLast {
			m.field, m.bits, m.text = f.number, f.bits, f.bytes
		}
	}
}
