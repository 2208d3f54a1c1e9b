package format

import (
	"errors"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"millrace/telemetry"
)

// Sparkplug B (Eclipse Sparkplug 3.0): the topic names group, edge node and
// device, and the reading's device is group:edge or group:edge:device. Metrics
// keep their names. Consecutive metrics of one time are one reading; a metric
// without a timestamp has the payload's.
//
// A birth names its metrics, their aliases and datatypes, and carries values
// like DATA. DATA for whose alias no birth was seen is refused: the name is
// nowhere in it. The remedy is a rebirth, which any Sparkplug host may ask for.
//
// Null metrics are ignored. So are bdSeq and what stands under Node Control/ and
// Device Control/, which are the protocol's own; a death says nothing else. A
// metric of a structured datatype (bytes, data sets, templates, arrays) is
// refused; the others of its message are taken.

// Sparkplug datatypes (3.0, section 6.4.16).
const (
	spInt8     = 1
	spInt16    = 2
	spInt32    = 3
	spInt64    = 4
	spUInt8    = 5
	spUInt64   = 8
	spDateTime = 13
)

// sparkplug is one message being decoded.
type sparkplug struct {
	d     *Decoder
	topic SparkplugTopic
	sent  time.Time // the payload's timestamp, or zero
	born  []Definition
	open  bool // the reading holds metrics that were not given yet
	first int  // index of the first metric in it
	ended bool // the caller wants no more
}

func (d *Decoder) decodeSparkplug(payload []byte, base Base) *telemetry.Refusal {
	topic, ours, refused := ParseSparkplugTopic(base.Topic)
	switch {
	case refused != nil:
		return refused
	case !ours:
		return badSparkplugTopic(base.Topic)
	}
	d.begin()
	s := &sparkplug{d: d, topic: topic}
	if refused := s.message(payload); refused != nil || s.ended {
		return refused
	}
	s.flush()
	switch {
	case topic.birth():
		d.config.Aliases.Born(topic.node(), topic.Device, s.born)
	case topic.death():
		d.config.Aliases.Died(topic.node(), topic.Device)
	}
	return nil
}

// message cuts the payload first, because its timestamp may stand behind the
// metrics that need it.
func (s *sparkplug) message(payload []byte) *telemetry.Refusal {
	metrics, err := s.cut(payload)
	if err != nil {
		return notSparkplug(err)
	}
	for i, b := range metrics {
		if refused := s.d.full(i); refused != nil {
			return refused
		}
		m, err := readSparkMetric(b)
		if err != nil {
			return notSparkplug(err)
		}
		if refused := s.metric(i, m); refused != nil && !s.ended {
			s.flush()
			s.ended = s.ended || !s.d.giveAt(i, nil, refused)
		}
		if s.ended {
			return nil
		}
	}
	return nil
}

func (s *sparkplug) cut(payload []byte) (metrics [][]byte, err error) {
	wrong := false
	err = wireFields(payload, func(f wireField) {
		switch f.number {
		case payloadTimestamp:
			s.sent, wrong = millis(f.bits), wrong || f.kind != protowire.VarintType
		case payloadMetrics:
			wrong = wrong || f.kind != protowire.BytesType
			if len(metrics) <= s.d.config.Limits.Items { // one too many is enough to refuse
				metrics = append(metrics, f.bytes)
			}
		}
	})
	if err == nil && wrong {
		err = errors.New("timestamp or metrics have the wrong wire type")
	}
	return metrics, err
}

func (s *sparkplug) metric(index int, m sparkMetric) *telemetry.Refusal {
	known, refused := s.identify(m)
	if refused != nil {
		return refused
	}
	if s.topic.birth() {
		s.born = append(s.born, known)
	}
	control := strings.HasPrefix(known.Name, "Node Control/") || strings.HasPrefix(known.Name, "Device Control/")
	if m.null || known.Name == "bdSeq" || control {
		return nil
	}
	v, refused := s.value(known, m)
	if refused != nil {
		return refused
	}
	at := s.sent
	if m.timed {
		at = millis(m.timestamp)
	}
	return s.put(index, known.Name, at, v)
}

// identify finds the metric's name and datatype, in it or in the birth.
func (s *sparkplug) identify(m sparkMetric) (Definition, *telemetry.Refusal) {
	def := Definition{Name: m.name, Alias: m.alias, HasAlias: m.aliased, Type: m.datatype}
	if s.topic.birth() || m.name != "" && m.datatype != 0 {
		if m.name == "" {
			return def, telemetry.Refuse(telemetry.ReasonMalformed, "a metric in a birth has no name: name it")
		}
		return def, nil
	}
	var known Definition
	var ok bool
	if m.name != "" {
		known, ok = s.d.config.Aliases.ByName(s.topic.node(), s.topic.Device, m.name)
		if !ok && m.typed() {
			return def, nil
		}
	} else if m.aliased {
		known, ok = s.d.config.Aliases.ByAlias(s.topic.node(), s.topic.Device, m.alias)
	}
	if !ok {
		return def, telemetry.Refuse(telemetry.ReasonMalformed,
			"no birth of %s defined metric %.64q (alias %d): ask for a rebirth (NCMD Node Control/Rebirth)",
			s.topic.Name(), m.name, m.alias)
	}
	if m.datatype != 0 {
		known.Type = m.datatype
	}
	return known, nil
}

// value makes a metric's wire value one of ours, as its datatype says. Signed
// integers travel in two's complement (section 6.4.16).
func (s *sparkplug) value(def Definition, m sparkMetric) (telemetry.Value, *telemetry.Refusal) {
	name := []byte(def.Name)
	switch m.field {
	case metricFloat:
		return finite(name, float64(math.Float32frombits(uint32(m.bits))))
	case metricDouble:
		return finite(name, math.Float64frombits(m.bits))
	case metricBoolean:
		return telemetry.Bool(m.bits != 0), nil
	case metricString:
		return s.d.text(name, m.text)
	case metricInt, metricLong:
		if v, ok := integer(def.Type, m.bits); ok {
			return v, nil
		}
	}
	return telemetry.Value{}, telemetry.Refuse(telemetry.ReasonMalformed,
		"metric %.64q is of Sparkplug datatype %d in field %d: send a number, a boolean or a string",
		def.Name, def.Type, m.field)
}

func integer(datatype uint32, bits uint64) (telemetry.Value, bool) {
	switch datatype {
	case spInt8:
		return telemetry.Number(float64(int8(bits))), true
	case spInt16:
		return telemetry.Number(float64(int16(bits))), true
	case spInt32:
		return telemetry.Number(float64(int32(bits))), true
	case spInt64:
		return telemetry.Number(float64(int64(bits))), true
	case spDateTime:
		return telemetry.Number(float64(bits)), true
	}
	return telemetry.Number(float64(bits)), datatype >= spUInt8 && datatype <= spUInt64
}

// put adds the metric to the open reading, or gives that and opens another.
func (s *sparkplug) put(index int, name string, at time.Time, v telemetry.Value) *telemetry.Refusal {
	r := &s.d.reading
	if s.open {
		_, twice := r.Value(name)
		if twice || !r.Time.Equal(at) || len(r.Metrics) == telemetry.MaxMetrics {
			s.flush()
		}
	}
	if !s.open {
		s.d.begin()
		r.Device, r.Time = s.topic.Name(), at
		s.open, s.first = true, index
	}
	return s.d.add(s.d.names.text([]byte(name)), v)
}

// flush gives the open reading.
func (s *sparkplug) flush() {
	if s.open && !s.ended {
		s.ended = !s.d.giveAt(s.first, nil, nil)
	}
	s.open = false
}

// millis is a Sparkplug timestamp; one that no clock can mean stays far in the
// future, where Check refuses it.
func millis(ms uint64) time.Time {
	return time.UnixMilli(int64(min(ms, 1e15)))
}

func notSparkplug(err error) *telemetry.Refusal {
	return telemetry.Refuse(telemetry.ReasonMalformed, "not a Sparkplug B payload: %s", sentence(err, "proto: "))
}
