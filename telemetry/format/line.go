package format

import (
	"slices"
	"strings"
	"time"

	lp "github.com/influxdata/line-protocol/v2/lineprotocol"

	"millrace/telemetry"
)

// Line: InfluxDB line protocol, one line one reading.
//
//	engine,device=truck-7 rpm=2100i,oil=4.1 1763762400000000000
//
// gives truck-7 the metrics engine.rpm and engine.oil. A field named value is
// the measurement itself: temperature,device=a value=21.5 is the metric
// temperature. The device is the first present of the tags device, device_id
// and host. Other tags tell series apart, so their values stand in the name, in
// the order of their keys: cpu,host=a,cpu=cpu0 idle=98 is cpu.cpu0.idle.
//
// Numbers become doubles (an integer beyond 2^53 is rounded), strings texts.
// The time is told by magnitude unless a precision is given; InfluxDB's default
// of nanoseconds is thereby understood. Comments and empty lines are skipped. A
// bad line is refused alone. For that, a newline always ends the line: encoders
// write one in a string as \n, and if a bare one could stand in quotes, a quote
// too many would take all lines behind it along.

func (d *Decoder) decodeLines(payload []byte, base Base) *telemetry.Refusal {
	for len(payload) > 0 {
		n := lineEnd(payload)
		line := trimSpace(payload[:n])
		payload = payload[n:]
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if refused := d.full(d.next); refused != nil {
			return refused
		}
		if !d.give(line, d.line(line, base.Precision)) {
			return nil
		}
	}
	return nil
}

func (d *Decoder) line(line []byte, precision time.Duration) *telemetry.Refusal {
	d.begin()
	r := lp.NewDecoderWithBytes(line)
	if !r.Next() {
		return telemetry.Refuse(telemetry.ReasonMalformed, "not line protocol: no entry in this line")
	}
	measurement, err := r.Measurement()
	if err != nil {
		return notLine(err)
	}
	d.path = append(d.path[:0], measurement...)
	if err := d.tags(r); err != nil {
		return notLine(err)
	}
	if refused := d.fields(r); refused != nil {
		return refused
	}
	refused := d.lineTime(r, precision)
	if refused == nil && r.Next() {
		refused = telemetry.Refuse(telemetry.ReasonMalformed, "a second entry in one line: end the first with a newline")
	}
	return refused
}

type tag struct{ key, value string }

// tags finds the device and puts the other tags' values behind the measurement.
func (d *Decoder) tags(r *lp.Decoder) error {
	var space [8]tag
	tags := space[:0]
	best := len(d.config.DeviceTags)
	for {
		key, value, err := r.NextTag()
		if err != nil {
			return err
		}
		if key == nil {
			break
		}
		if rank := slices.Index(d.config.DeviceTags, string(key)); rank >= 0 && rank < best {
			best = rank
		}
		tags = append(tags, tag{d.names.text(key), d.names.text(value)})
	}
	slices.SortFunc(tags, func(a, b tag) int { return strings.Compare(a.key, b.key) })
	for _, t := range tags {
		if best < len(d.config.DeviceTags) && t.key == d.config.DeviceTags[best] {
			d.reading.Device = t.value
			continue
		}
		d.path = append(append(d.path, '.'), t.value...)
	}
	return nil
}

func (d *Decoder) fields(r *lp.Decoder) *telemetry.Refusal {
	prefix := len(d.path)
	for {
		key, value, err := r.NextField()
		if err != nil {
			return notLine(err)
		}
		if key == nil {
			return nil
		}
		d.path = d.path[:prefix]
		if string(key) != "value" {
			d.path = append(append(d.path, '.'), key...)
		}
		if len(d.path) > telemetry.MaxMetricName {
			return telemetry.Refuse(telemetry.ReasonLimit,
				"a metric name of %d bytes is longer than %d", len(d.path), telemetry.MaxMetricName)
		}
		v, refused := d.fieldValue(value)
		if refused == nil {
			refused = d.add(d.names.text(d.path), v)
		}
		if refused != nil {
			return refused
		}
	}
}

func (d *Decoder) fieldValue(v lp.Value) (telemetry.Value, *telemetry.Refusal) {
	switch v.Kind() {
	case lp.Float:
		return finite(d.path, v.FloatV())
	case lp.Int:
		return telemetry.Number(float64(v.IntV())), nil
	case lp.Uint:
		return telemetry.Number(float64(v.UintV())), nil
	case lp.Bool:
		return telemetry.Bool(v.BoolV()), nil
	}
	return d.text(d.path, []byte(v.StringV()))
}

func (d *Decoder) lineTime(r *lp.Decoder, precision time.Duration) *telemetry.Refusal {
	digits, err := r.TimeBytes()
	if err != nil {
		return notLine(err)
	}
	if digits == nil {
		return nil
	}
	v, err := lp.NewValueFromBytes(lp.Int, digits)
	if err != nil {
		return telemetry.Refuse(telemetry.ReasonTime, "time %.40s is out of range: send an integer since 1970", digits)
	}
	at, ok := instantIn(v.IntV(), precision)
	if !ok {
		return telemetry.Refuse(telemetry.ReasonTime, "time %.40s is out of range for its precision", digits)
	}
	d.reading.Time = at
	return given(at)
}

func notLine(err error) *telemetry.Refusal {
	return telemetry.Refuse(telemetry.ReasonMalformed, "not line protocol: %s", sentence(err, ""))
}
