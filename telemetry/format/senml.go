package format

import (
	"math"
	"strings"
	"time"

	"millrace/telemetry"
)

// SenML (RFC 8428): a pack is an array of records; base fields hold for the
// records behind them. Consecutive records of one device and one time are one
// reading.
//
//	[{"bn":"truck-7:","bt":1763762400,"n":"speed","v":61.2},{"n":"state","vs":"moving"}]
//
// The device is the base name without the separator at its end (: / . _ -), and
// the metric is the name. Where a record has only one of the two: if topic, path
// or login names the device, that one is the metric; else a name with a slash is
// device/metric; else it is the device, and the metric is "value".
//
// A sum is the metric name.sum; a data value (vd) is a text. Units and update
// times say nothing that a reading keeps, and are ignored. Times below 2^28 are
// relative to the time of receipt (section 4.5.3); a record without a time has
// none. A version above 10 and a label that must be understood (one that ends in
// _) refuse the pack, as section 4.4 demands.

// senmlVersion is the version of RFC 8428.
const senmlVersion = 10

// absoluteFrom is where absolute times begin (section 4.5.3).
const absoluteFrom = 1 << 28

// field is a number that may be absent.
type field struct {
	f  float64
	ok bool
}

func (a field) plus(b field) field { return field{a.f + b.f, a.ok || b.ok} }

// record is one record of a pack as it is written.
type record struct {
	name              string
	time, value, sum  field
	text              string
	hasText, hasData  bool
	truth, hasTruth   bool
	baseName          string
	hasBaseName       bool
	baseTime, baseVal field
	baseSum           field
	version           field
}

// pack resolves records against the base fields before them.
type pack struct {
	d    *Decoder
	base Base

	name           string
	time, val, sum field

	index    int  // of the next record
	first    int  // index of the first record in the open reading
	open     bool // the reading holds metrics that were not given yet
	finished bool // the caller wants no more
}

func (d *Decoder) newPack(base Base) *pack {
	d.begin()
	return &pack{d: d, base: base}
}

// take resolves the record and puts it into the reading. An error refuses the
// whole pack.
func (p *pack) take(r *record) *telemetry.Refusal {
	if refused := p.d.full(p.index); refused != nil {
		return refused
	}
	if r.version.ok && r.version.f > senmlVersion {
		return telemetry.Refuse(telemetry.ReasonMalformed,
			"SenML version %v is newer than %d: send bver %d or none", r.version.f, senmlVersion, senmlVersion)
	}
	p.rebase(r)
	refused := p.record(r)
	if refused != nil {
		p.flush()
		if !p.finished && !p.d.giveAt(p.index, nil, refused) {
			p.finished = true
		}
	}
	p.index++
	return nil
}

func (p *pack) rebase(r *record) {
	if r.hasBaseName {
		p.name = r.baseName
	}
	if r.baseTime.ok {
		p.time = r.baseTime
	}
	if r.baseVal.ok {
		p.val = r.baseVal
	}
	if r.baseSum.ok {
		p.sum = r.baseSum
	}
}

func (p *pack) record(r *record) *telemetry.Refusal {
	v, hasValue, refused := p.value(r)
	if refused != nil {
		return refused
	}
	sum := p.sum.plus(r.sum)
	if !hasValue && !sum.ok {
		if r.name == "" {
			return nil // base fields alone
		}
		return telemetry.Refuse(telemetry.ReasonMalformed, "SenML record %.64q has no value: send v, vs, vb, vd or s", r.name)
	}
	at, refused := p.when(r.time)
	if refused != nil {
		return refused
	}
	device, metric := p.names(r.name)
	if metric == "" || len(metric) > telemetry.MaxMetricName {
		return telemetry.Refuse(telemetry.ReasonMalformed, "SenML record %d has no usable name: send bn and n", p.index)
	}
	if hasValue {
		refused = p.put(device, metric, at, v)
	}
	if sum.ok && refused == nil {
		if v, refused = finite([]byte(metric), sum.f); refused == nil {
			refused = p.put(device, metric+".sum", at, v)
		}
	}
	return refused
}

// value is the record's one value, if it has one.
func (p *pack) value(r *record) (telemetry.Value, bool, *telemetry.Refusal) {
	kinds := 0
	for _, has := range []bool{r.value.ok, r.hasText, r.hasTruth, r.hasData} {
		if has {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return telemetry.Value{}, false, telemetry.Refuse(telemetry.ReasonMalformed,
			"SenML record %d has more than one value: send one of v, vs, vb, vd", p.index)
	case r.hasText || r.hasData:
		v, refused := p.d.text([]byte(r.name), []byte(r.text))
		return v, true, refused
	case r.hasTruth:
		return telemetry.Bool(r.truth), true, nil
	}
	if number := p.val.plus(r.value); number.ok && (r.value.ok || r.name != "") {
		v, refused := finite([]byte(r.name), number.f)
		return v, true, refused
	}
	return telemetry.Value{}, false, nil
}

// when resolves a record's time; zero for none.
func (p *pack) when(t field) (time.Time, *telemetry.Refusal) {
	sum := p.time.plus(t)
	switch {
	case !sum.ok:
		return time.Time{}, nil
	case math.IsNaN(sum.f) || math.Abs(sum.f) >= secondsBelow:
		return time.Time{}, telemetry.Refuse(telemetry.ReasonTime,
			"SenML time %v is out of range: send seconds since 1970", sum.f)
	case sum.f < absoluteFrom:
		// In two steps: a Duration holds no more than 292 years.
		whole := math.Floor(sum.f)
		at := time.Unix(p.base.Received.Unix()+int64(whole), int64(p.base.Received.Nanosecond()))
		return at.Add(time.Duration((sum.f - whole) * float64(time.Second))), nil
	}
	return instantFloat(sum.f, time.Second), nil
}

// names splits what names a record into device and metric.
func (p *pack) names(name string) (device, metric string) {
	if p.name != "" && name != "" {
		return strings.TrimRight(p.name, ":/._-"), name
	}
	name = p.name + name
	if name == "" || p.base.Device != "" {
		return "", name
	}
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return name, "value"
}

// put adds the metric to the open reading, or gives that and opens another.
func (p *pack) put(device, metric string, at time.Time, v telemetry.Value) *telemetry.Refusal {
	r := &p.d.reading
	if p.open {
		_, twice := r.Value(metric)
		if twice || r.Device != device || !r.Time.Equal(at) || len(r.Metrics) == telemetry.MaxMetrics {
			p.flush()
		}
	}
	if !p.open {
		p.d.begin()
		r.Device, r.Time = device, at
		p.open, p.first = true, p.index
	}
	return p.d.add(p.d.names.text([]byte(metric)), v)
}

// flush gives the open reading.
func (p *pack) flush() {
	if p.open && !p.finished {
		p.finished = !p.d.giveAt(p.first, nil, nil)
	}
	p.open = false
}

// mustUnderstand refuses a pack with an unknown label that ends in _ (section 4.4).
func mustUnderstand(label string) *telemetry.Refusal {
	if !strings.HasSuffix(label, "_") {
		return nil
	}
	return telemetry.Refuse(telemetry.ReasonMalformed,
		"SenML label %.40q must be understood and is not: leave it out", label)
}
