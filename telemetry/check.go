package telemetry

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Check puts the reading's metrics and time into canonical order and precision
// and says what is wrong with it, if anything: a *[Refusal] whose Reason is the
// class. now is the time of receipt: it bounds how far ahead Time may be. A
// reading without a time must be given one before.
//
// It is the one place that decides what a reading may be: doors, replay and sink
// all ask it.
func (r *Reading) Check(now time.Time) error {
	if err := CheckDevice(r.Device); err != nil {
		return err
	}
	r.Time = r.Time.UTC().Truncate(time.Microsecond)
	if r.Time.Before(MinTime) {
		return Refuse(ReasonTime, "time %s is before 2000-01-01: set the device's clock", r.Time.Format(time.RFC3339))
	}
	if r.Time.After(now.Add(MaxAhead)) {
		return Refuse(ReasonTime, "time %s is more than an hour ahead of %s: set the device's clock",
			r.Time.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return r.checkMetrics()
}

func (r *Reading) checkMetrics() error {
	if len(r.Metrics) == 0 {
		return Refuse(ReasonMalformed, "a reading has no values: send at least one metric")
	}
	if len(r.Metrics) > MaxMetrics {
		return Refuse(ReasonLimit, "%d metrics in a reading are more than %d: split it", len(r.Metrics), MaxMetrics)
	}
	slices.SortFunc(r.Metrics, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	for i := range r.Metrics {
		if err := r.Metrics[i].check(); err != nil {
			return err
		}
		if i > 0 && r.Metrics[i-1].Name == r.Metrics[i].Name {
			return Refuse(ReasonMalformed, "metric %q stands twice in one reading: send it once", r.Metrics[i].Name)
		}
	}
	return nil
}

func (m *Metric) check() error {
	switch {
	case m.Name == "":
		return Refuse(ReasonMalformed, "a metric has an empty name: name it")
	case len(m.Name) > MaxMetricName:
		return Refuse(ReasonLimit, "a metric name of %d bytes is longer than %d", len(m.Name), MaxMetricName)
	case !cleanText(m.Name):
		return Refuse(ReasonMalformed, "metric name %q holds a control character or invalid UTF-8", m.Name)
	}
	switch m.Value.kind {
	case KindNumber:
		if math.IsNaN(m.Value.number) || math.IsInf(m.Value.number, 0) {
			return Refuse(ReasonMalformed, "metric %q is not a finite number", m.Name)
		}
	case KindText:
		if len(m.Value.text) > MaxText {
			return Refuse(ReasonLimit, "metric %q is a text of %d bytes, longer than %d", m.Name, len(m.Value.text), MaxText)
		}
		// PostgreSQL's text holds neither; refusing here keeps the row as it was said.
		if !utf8.ValidString(m.Value.text) || strings.IndexByte(m.Value.text, 0) >= 0 {
			return Refuse(ReasonMalformed, "metric %q is a text with a zero byte or invalid UTF-8", m.Name)
		}
	case KindBool:
	default:
		return Refuse(ReasonMalformed, "metric %q has no value: send a number, a string or a boolean", m.Name)
	}
	return nil
}

// CheckDevice says whether name is a device name: 1 to 128 of A-Za-z0-9._:-
// The error is a *[Refusal] with [ReasonDevice].
func CheckDevice(name string) error {
	if name == "" {
		return Refuse(ReasonDevice, "the device name is empty: name the device in the topic, the path or the message")
	}
	if len(name) > MaxDeviceName {
		return Refuse(ReasonDevice, "a device name of %d bytes is longer than %d", len(name), MaxDeviceName)
	}
	for i := 0; i < len(name); i++ {
		if !DeviceByte(name[i]) {
			return Refuse(ReasonDevice, "device name %s has %s: allowed are A-Za-z0-9 and . _ : -",
				clip(name), clip(firstRune(name[i:])))
		}
	}
	return nil
}

// DeviceByte says whether c may stand in a device name.
func DeviceByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '.' || c == '_' || c == ':' || c == '-'
}

func firstRune(s string) string {
	_, size := utf8.DecodeRuneInString(s)
	return s[:size]
}

// clip quotes s for an error message, shortened: the sender chose it.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

func cleanText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}
