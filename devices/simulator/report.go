package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Progress is how far a play is.
type Progress struct {
	Rows         int64   // read
	Published    int64   // handed to a connection
	Acknowledged int64   // by the broker
	Fraction     float64 // 0 to 1: of the file's bytes, or of the rows when played by the clock
	Elapsed      time.Duration
}

// Rate is the messages acknowledged a second so far.
func (p Progress) Rate() float64 { return rate(p.Acknowledged, p.Elapsed) }

func rate(n int64, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return float64(n) / took.Seconds()
}

// Rejection is the rows that were not played for one reason.
type Rejection struct {
	Reason string // one word: csv, columns, device, time, empty, limit, malformed
	Rows   int64
	First  []RejectedRow // the first few
}

// RejectedRow is one row that was not played.
type RejectedRow struct {
	Line   int // of the file, from 1
	Detail string
}

// Report is what became of a play.
type Report struct {
	Rows         int64             // read, the header not counted
	Published    int64             // rows that became messages
	Acknowledged int64             // messages that the broker has acknowledged
	Rejected     []Rejection       // rows that did not become messages, in order of reason
	Devices      int               // that spoke
	Renamed      map[string]string // from what the file says to the device's name, where they differ
	NotFinite    int               // cells left out because they hold NaN or infinity
	TimeLayout   string            // given or found
	Duration     time.Duration
	Stopped      bool // cancelled before the end
}

// firstRejected is how many rejected rows a reason shows.
const firstRejected = 5

// reject counts a row.
func (r *Report) reject(reason string, line int, detail string) {
	i, found := slices.BinarySearchFunc(r.Rejected, reason, func(r Rejection, reason string) int {
		return strings.Compare(r.Reason, reason)
	})
	if !found {
		r.Rejected = slices.Insert(r.Rejected, i, Rejection{Reason: reason})
	}
	rejection := &r.Rejected[i]
	rejection.Rows++
	if len(rejection.First) < firstRejected {
		rejection.First = append(rejection.First, RejectedRow{line, strings.Clone(detail)})
	}
}

// RejectedRows is how many rows were not played.
func (r *Report) RejectedRows() (n int64) {
	for _, rejection := range r.Rejected {
		n += rejection.Rows
	}
	return n
}

// Rate is the messages acknowledged a second.
func (r *Report) Rate() float64 { return rate(r.Acknowledged, r.Duration) }

// String is the report as people read it, several lines.
func (r *Report) String() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("rows read", "%d", r.Rows)
	line("devices", "%d", r.Devices)
	line("published", "%d", r.Published)
	line("acknowledged", "%d", r.Acknowledged)
	line("rejected", "%d", r.RejectedRows())
	for _, rejection := range r.Rejected {
		fmt.Fprintf(&b, "  %s: %d\n", rejection.Reason, rejection.Rows)
		for _, row := range rejection.First {
			fmt.Fprintf(&b, "    line %d: %s\n", row.Line, row.Detail)
		}
		if more := rejection.Rows - int64(len(rejection.First)); more > 0 {
			fmt.Fprintf(&b, "    and %d more\n", more)
		}
	}
	if r.NotFinite > 0 {
		line("left out", "%d cells that hold NaN or infinity", r.NotFinite)
	}
	line("time layout", "%s", r.TimeLayout)
	line("took", "%s", r.Duration.Round(time.Millisecond))
	line("messages/s", "%.0f", r.Rate())
	if len(r.Renamed) > 0 {
		fmt.Fprintf(&b, "renamed: each run of bytes outside A-Za-z0-9._:- became one '-', none at the ends\n")
		for _, said := range slices.Sorted(maps.Keys(r.Renamed)) {
			fmt.Fprintf(&b, "  %q is %s\n", said, r.Renamed[said])
		}
	}
	if r.Stopped {
		fmt.Fprintf(&b, "stopped before the end of the file\n")
	}
	b.WriteString("MQTT 3.1.1 carries no refusals: what the server acknowledged but could not accept is among its\n" +
		"dead letters (millrace dead list)\n")
	return b.String()
}
