package telemetry

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter says which readings somebody wants. The zero Filter wants all. Its
// parameters have the same names in a query string, in a WebSocket message and
// in the docs: device, metric, where, bbox.
//
// A Filter is safe for concurrent use; it is not changed once it is parsed.
type Filter struct {
	Devices []string    // globs, any of which must match; none: every device
	Metrics []string    // names, at least one of which must be there; none: all
	Where   []Condition // all of which must hold
	Box     *Box        // where the reading must have its place; nil: anywhere
}

// Box is a piece of the map in degrees. MinLon may be greater than MaxLon: the
// box then crosses the date line (RFC 7946 section 5.2).
type Box struct{ MinLon, MinLat, MaxLon, MaxLat float64 }

// Condition compares a metric of the reading with a value. A reading without
// the metric does not meet it.
type Condition struct {
	Metric string
	Op     string // one of = != < <= > >=
	Value  Value
}

// Span is a piece of history: what lies behind After, before To (zero: all
// there is), and matches Filter.
type Span struct {
	After  Cursor
	To     time.Time
	Filter Filter
}

// maxFilterItems bounds what one filter may hold, for it is matched against
// every reading.
const maxFilterItems = 1000

// ParseFilter reads a filter from the parameters device, metric, where and
// bbox; others are ignored. The error is a *[BadRequest].
func ParseFilter(values map[string][]string) (Filter, error) {
	f := Filter{Devices: sorted(values["device"]), Metrics: sorted(values["metric"])}
	if len(f.Devices)+len(f.Metrics)+len(values["where"]) > maxFilterItems {
		return f, &BadRequest{"device", "more than " + strconv.Itoa(maxFilterItems) + " devices, metrics and conditions: use a glob such as truck-*"}
	}
	for _, glob := range f.Devices {
		if err := checkGlob(glob); err != nil {
			return f, err
		}
	}
	if slices.Contains(f.Devices, "*") {
		f.Devices = nil
	}
	for _, text := range sorted(values["where"]) {
		c, err := parseCondition(text)
		if err != nil {
			return f, err
		}
		f.Where = append(f.Where, c)
	}
	if boxes := values["bbox"]; len(boxes) > 0 && boxes[0] != "" {
		box, err := parseBox(boxes[0])
		if err != nil {
			return f, err
		}
		f.Box = &box
	}
	return f, nil
}

// sorted is the distinct non-empty items in order, so that filters that want
// the same have the same key.
func sorted(items []string) []string {
	items = slices.DeleteFunc(slices.Clone(items), func(s string) bool { return s == "" })
	slices.Sort(items)
	items = slices.Compact(items)
	if len(items) == 0 {
		return nil
	}
	return items
}

func checkGlob(glob string) error {
	if len(glob) > MaxDeviceName {
		return &BadRequest{"device", "a glob longer than a device name can be (" + strconv.Itoa(MaxDeviceName) + " bytes)"}
	}
	for i := 0; i < len(glob); i++ {
		if c := glob[i]; c != '*' && c != '?' && !DeviceByte(c) {
			return &BadRequest{"device", clip(glob) + " is not a device name or glob: allowed are A-Za-z0-9 . _ : - and the wildcards * and ?"}
		}
	}
	return nil
}

func parseCondition(text string) (Condition, error) {
	at := strings.IndexAny(text, "<>=!")
	if at <= 0 {
		return Condition{}, &BadRequest{"where", clip(text) + " is not a condition: write it as speed>80"}
	}
	c := Condition{Metric: strings.TrimSpace(text[:at])}
	rest := text[at:]
	for _, op := range []string{"<=", ">=", "!=", "==", "<", ">", "="} {
		if strings.HasPrefix(rest, op) {
			c.Op, rest = op, strings.TrimSpace(rest[len(op):])
			break
		}
	}
	if c.Op == "==" {
		c.Op = "="
	}
	if c.Op == "" || rest == "" {
		return c, &BadRequest{"where", clip(text) + " is not a condition: the operators are = != < <= > >="}
	}
	c.Value = parseOperand(rest)
	if c.Value.Kind() != KindNumber && c.Op != "=" && c.Op != "!=" {
		return c, &BadRequest{"where", clip(text) + ": only numbers are compared by " + c.Op}
	}
	return c, nil
}

func parseOperand(text string) Value {
	if unquoted, err := strconv.Unquote(text); err == nil && text[0] == '"' {
		return Text(unquoted)
	}
	if text == "true" || text == "false" {
		return Bool(text == "true")
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f-f == 0 {
		return Number(f)
	}
	return Text(text)
}

func parseBox(text string) (Box, error) {
	parts := strings.Split(text, ",")
	var n [4]float64
	for i, part := range parts {
		f, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if i > 3 || err != nil || f-f != 0 {
			return Box{}, &BadRequest{"bbox", clip(text) + " is not minlon,minlat,maxlon,maxlat in degrees"}
		}
		n[i] = f
	}
	if len(parts) != 4 || n[1] > n[3] {
		return Box{}, &BadRequest{"bbox", clip(text) + " is not minlon,minlat,maxlon,maxlat in degrees"}
	}
	return Box{n[0], n[1], n[2], n[3]}, nil
}

// All says whether the filter wants everything as it is.
func (f *Filter) All() bool {
	return len(f.Devices) == 0 && len(f.Metrics) == 0 && len(f.Where) == 0 && f.Box == nil
}

// Key is a text that is equal for filters that want the same.
func (f *Filter) Key() string {
	var b strings.Builder
	for _, part := range [][]string{f.Devices, f.Metrics} {
		for _, item := range part {
			b.WriteString(strconv.Quote(item))
		}
		b.WriteByte('|')
	}
	for _, c := range f.Where {
		b.WriteString(strconv.Quote(c.Metric) + c.Op)
		b.Write(c.Value.AppendJSON(nil))
	}
	b.WriteByte('|')
	if f.Box != nil {
		for _, n := range []float64{f.Box.MinLon, f.Box.MinLat, f.Box.MaxLon, f.Box.MaxLat} {
			b.Write(appendNumber(nil, n))
			b.WriteByte(',')
		}
	}
	return b.String()
}

// MatchDevice says whether the filter wants readings of the device at all.
func (f *Filter) MatchDevice(device string) bool {
	if len(f.Devices) == 0 {
		return true
	}
	for _, glob := range f.Devices {
		if glob == device {
			return true
		}
		if ok, _ := path.Match(glob, device); ok { // names hold no slash, checked globs no bracket
			return true
		}
	}
	return false
}

// Match says whether the filter wants the reading.
func (f *Filter) Match(r *Reading) bool {
	return f.MatchDevice(r.Device) && f.matchMetrics(r) && f.matchWhere(r) && f.matchBox(r)
}

// Project says whether the filter wants the reading, and takes out of r the
// metrics it does not want. It changes r.Metrics in place.
func (f *Filter) Project(r *Reading) bool {
	if !f.Match(r) {
		return false
	}
	if len(f.Metrics) > 0 {
		kept := r.Metrics[:0]
		for _, m := range r.Metrics {
			if slices.Contains(f.Metrics, m.Name) {
				kept = append(kept, m)
			}
		}
		r.Metrics = kept
	}
	return true
}

func (f *Filter) matchMetrics(r *Reading) bool {
	if len(f.Metrics) == 0 {
		return true
	}
	for i := range r.Metrics {
		if slices.Contains(f.Metrics, r.Metrics[i].Name) {
			return true
		}
	}
	return false
}

func (f *Filter) matchWhere(r *Reading) bool {
	for i := range f.Where {
		v, ok := r.Value(f.Where[i].Metric)
		if !ok || !f.Where[i].holds(v) {
			return false
		}
	}
	return true
}

func (c *Condition) holds(v Value) bool {
	switch c.Op {
	case "=":
		return v.Equal(c.Value)
	case "!=":
		return !v.Equal(c.Value)
	}
	if v.Kind() != KindNumber {
		return false
	}
	switch c.Op {
	case "<":
		return v.Number() < c.Value.Number()
	case "<=":
		return v.Number() <= c.Value.Number()
	case ">":
		return v.Number() > c.Value.Number()
	default:
		return v.Number() >= c.Value.Number()
	}
}

func (f *Filter) matchBox(r *Reading) bool {
	if f.Box == nil {
		return true
	}
	lat, lon, ok := r.Place()
	if !ok || lat < f.Box.MinLat || lat > f.Box.MaxLat {
		return false
	}
	if f.Box.MinLon <= f.Box.MaxLon {
		return lon >= f.Box.MinLon && lon <= f.Box.MaxLon
	}
	return lon >= f.Box.MinLon || lon <= f.Box.MaxLon
}
