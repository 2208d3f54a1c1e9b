package broadcaster

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/telemetry"
)

// latest holds the newest value of each metric of each device; the newest time
// wins, and of values of one time the first said. It is as old as the last round: exactly where the groups stand.
type latest struct {
	most int // devices

	mu      sync.RWMutex // protects what follows
	devices map[string]*lastSaid
	refused uint64 // readings of devices for which there was no room
}

// lastSaid is what a device said last: its metrics merged, in byte order.
type lastSaid struct {
	reading telemetry.Reading // Time is the newest
	times   []time.Time       // of each metric
	seq     uint64            // the place of the reading that changed it last
}

func newLatest(most int) *latest {
	return &latest{most: most, devices: make(map[string]*lastSaid)}
}

// update takes over a reading at a place. It copies what it keeps. It answers
// false if the device is one too many.
func (l *latest) update(r *telemetry.Reading, seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.devices[r.Device]
	if d == nil {
		if len(l.devices) >= l.most {
			l.refused++
			return false
		}
		d = &lastSaid{reading: telemetry.Reading{Device: r.Device}}
		l.devices[r.Device] = d
	}
	if d.merge(r) {
		d.seq = seq
	}
	return true
}

// merge takes over the metrics of r that are newer than those known.
func (d *lastSaid) merge(r *telemetry.Reading) (changed bool) {
	for i := range r.Metrics {
		m := &r.Metrics[i]
		at, known := i, i < len(d.reading.Metrics) && d.reading.Metrics[i].Name == m.Name
		if !known {
			at, known = slices.BinarySearchFunc(d.reading.Metrics, m.Name, func(m telemetry.Metric, name string) int {
				return strings.Compare(m.Name, name)
			})
		}
		switch {
		case !known:
			d.reading.Metrics = slices.Insert(d.reading.Metrics, at, *m)
			d.times = slices.Insert(d.times, at, r.Time)
		case !r.Time.After(d.times[at]):
			continue // at the same time the first stays, as it does in the database
		default:
			d.reading.Metrics[at].Value, d.times[at] = m.Value, r.Time
		}
		changed = true
	}
	if r.Time.After(d.reading.Time) {
		d.reading.Time = r.Time
	}
	return changed
}

// forget empties the table: the log has begun anew.
func (l *latest) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.devices)
}

// matching are the canonical forms of the latest values that a query wants and
// that changed at since or later, in order of the devices' names.
func (l *latest) matching(q *Query, since uint64) [][]byte {
	l.mu.RLock()
	defer l.mu.RUnlock()
	type named struct {
		device string
		json   []byte
	}
	var all []named
	var scratch telemetry.Reading
	for name, d := range l.devices {
		if d.seq < since || !q.Filter.MatchDevice(name) {
			continue
		}
		scratch = telemetry.Reading{Device: name, Time: d.reading.Time, Metrics: append(scratch.Metrics[:0], d.reading.Metrics...)}
		if q.wants(&scratch) {
			all = append(all, named{name, scratch.AppendJSON(nil)})
		}
	}
	slices.SortFunc(all, func(a, b named) int { return strings.Compare(a.device, b.device) })
	readings := make([][]byte, len(all))
	for i := range all {
		readings[i] = all[i].json
	}
	return readings
}

// Ranked is a device's place in a top list.
type Ranked struct {
	Device string
	Time   time.Time // when the device said it
	Value  float64
}

// top are the n devices with the greatest latest values of a metric, or the
// least; devices with equal values are in order of their names.
func (l *latest) top(f *telemetry.Filter, metric string, n int, least bool) []Ranked {
	l.mu.RLock()
	var all []Ranked
	for name, d := range l.devices {
		if !f.Match(&d.reading) {
			continue
		}
		for i := range d.reading.Metrics {
			if m := &d.reading.Metrics[i]; m.Name == metric && m.Value.Kind() == telemetry.KindNumber {
				all = append(all, Ranked{name, d.times[i], m.Value.Number()})
			}
		}
	}
	l.mu.RUnlock()
	slices.SortFunc(all, func(a, b Ranked) int {
		byValue := cmp.Compare(b.Value, a.Value)
		if least {
			byValue = -byValue
		}
		return cmp.Or(byValue, strings.Compare(a.Device, b.Device))
	})
	return all[:min(n, len(all))]
}

// count is how many devices there are.
func (l *latest) count() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.devices)
}
