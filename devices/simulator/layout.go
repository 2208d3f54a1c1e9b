package simulator

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// layout is a way to write times.
type layout struct {
	name  string
	parse func(text string, zone *time.Location) (time.Time, error)
	// guess: whether detection may choose it. Order decides between layouts that
	// read the same times the same way.
	guess bool
	// rival is the layout that reads many of the same texts as other times.
	rival string
}

// layouts answers the layouts that have a name, or are found by looking.
func layouts() []layout {
	return []layout{
		written("rfc3339", time.RFC3339Nano, ""),
		written("2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07:00", ""),
		written("2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07", ""),
		written("2006-01-02 15:04:05", "2006-01-02 15:04:05", ""),
		written("2006-01-02T15:04:05", "2006-01-02T15:04:05", ""),
		written("2006-01-02 15:04", "2006-01-02 15:04", ""),
		written("2006-01-02T15:04", "2006-01-02T15:04", ""),
		written("02/01/2006 15:04", "02/01/2006 15:04", "01/02/2006 15:04"),
		written("01/02/2006 15:04", "01/02/2006 15:04", "02/01/2006 15:04"),
		written("02/01/2006 15:04:05", "02/01/2006 15:04:05", "01/02/2006 15:04:05"),
		written("01/02/2006 15:04:05", "01/02/2006 15:04:05", "02/01/2006 15:04:05"),
		written("02.01.2006 15:04", "02.01.2006 15:04", ""),
		written("02.01.2006 15:04:05", "02.01.2006 15:04:05", ""),
		counted("unix", time.Second),
		counted("unix-ms", time.Millisecond),
		counted("unix-us", time.Microsecond),
		counted("unix-ns", time.Nanosecond),
	}
}

func written(name, form, rival string) layout {
	return layout{name: name, guess: true, rival: rival, parse: func(text string, zone *time.Location) (time.Time, error) {
		return time.ParseInLocation(form, text, zone)
	}}
}

// counted is a number of units since 1970. Only one unit puts a number between
// 1990 and 2100, so they are told apart.
func counted(name string, unit time.Duration) layout {
	first := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	last := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	return layout{name: name, guess: true, parse: func(text string, _ *time.Location) (time.Time, error) {
		t, err := since1970(text, unit)
		if err == nil && (t.Before(first) || t.After(last)) {
			err = fmt.Errorf("%s as %s is the year %d", text, name, t.Year())
		}
		return t, err
	}}
}

func since1970(text string, unit time.Duration) (time.Time, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		per := int64(time.Second / unit)
		return time.Unix(n/per, n%per*int64(unit)), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > 1e19 {
		return time.Time{}, fmt.Errorf("%.40q is not a number", text)
	}
	whole, part := math.Modf(f * unit.Seconds())
	if math.Abs(whole) > 1e11 {
		return time.Time{}, fmt.Errorf("%.40q is out of range", text)
	}
	return time.Unix(int64(whole), int64(math.Round(part*1e6))*1000), nil
}

// namedLayout is the layout of that name, or the one of Go's notation.
func namedLayout(name string) (layout, error) {
	for _, l := range layouts() {
		if strings.EqualFold(l.name, name) {
			return l, nil
		}
	}
	// What is no layout does not give back the time it has written.
	probe := time.Date(2021, 11, 23, 13, 14, 15, 0, time.UTC)
	back, err := time.Parse(name, probe.Format(name))
	if err != nil || back.Format(time.DateOnly) != probe.Format(time.DateOnly) {
		return layout{}, fmt.Errorf("time layout %q: give rfc3339, unix, unix-ms, unix-us, unix-ns, "+
			"or how 2 January 2006, 15:04:05 would be written, such as 02/01/2006 15:04", name)
	}
	return written(name, name, ""), nil
}

// detector finds the layout of a column by trying all of them on its cells.
type detector struct {
	zone   *time.Location
	all    []layout
	read   []int    // by layout: cells it reads
	alone  []int    // by layout: cells it reads and its rival does not
	cells  int      // tried
	unread []string // the first few that nothing reads
}

// enough is how many cells without contradiction settle it.
const enough = 1000

func newDetector(zone *time.Location) *detector {
	all := layouts()
	return &detector{zone: zone, all: all, read: make([]int, len(all)), alone: make([]int, len(all))}
}

// look tries the cell; true: there is no need to look at more.
func (d *detector) look(cell string) bool {
	ok := make([]bool, len(d.all))
	any := false
	for i, l := range d.all {
		_, err := l.parse(cell, d.zone)
		ok[i] = err == nil
		any = any || ok[i]
	}
	for i := range d.all {
		if !ok[i] {
			continue
		}
		d.read[i]++
		if r := d.rivalOf(i); r >= 0 && !ok[r] {
			d.alone[i]++
		}
	}
	d.cells++
	if !any && len(d.unread) < 3 {
		d.unread = append(d.unread, strings.Clone(cell))
	}
	return d.cells >= enough && d.settled()
}

func (d *detector) rivalOf(i int) int {
	if d.all[i].rival == "" {
		return -1
	}
	return slices.IndexFunc(d.all, func(l layout) bool { return l.name == d.all[i].rival })
}

func (d *detector) best() int {
	best := 0
	for i := range d.all {
		if d.read[i] > d.read[best] {
			best = i
		}
	}
	return best
}

func (d *detector) settled() bool {
	best := d.best()
	return d.read[best] > 0 && (d.rivalOf(best) < 0 || d.alone[best] > 0)
}

// choose answers the layout that reads most cells. A day and a month that no
// cell tells apart, or that the cells contradict each other on, is an error.
func (d *detector) choose(column string) (layout, error) {
	best := d.best()
	if d.cells == 0 {
		return layout{}, fmt.Errorf("column %q holds no times", column)
	}
	if d.read[best] == 0 {
		return layout{}, fmt.Errorf("column %q holds times in no known layout (such as %q): give the time layout", column, d.unread)
	}
	rival := d.rivalOf(best)
	if rival >= 0 && (d.alone[best] == 0 || d.alone[rival] > 0) {
		return layout{}, fmt.Errorf("column %q may be %s or %s: give the time layout", column, d.all[best].name, d.all[rival].name)
	}
	return d.all[best], nil
}
