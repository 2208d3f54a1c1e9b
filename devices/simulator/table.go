package simulator

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"millrace/telemetry"
)

// rowError says why a row is not played.
type rowError struct{ reason, detail string }

func (e *rowError) Error() string { return e.detail }

// maxRow bounds one row, so that a quote never closed does not read the rest of
// a large file into memory.
const maxRow = 4 << 20

// table is a recording, read row by row.
type table struct {
	csv     *csv.Reader
	budget  *budget
	columns []string // of the header, as written there
	device  int      // column
	time    int      // column
	metrics []column
}

type column struct {
	index int
	name  string // of the metric
}

// budget fails a read that goes beyond what one row may have, and counts.
type budget struct {
	from  io.Reader
	left  int
	total func(n int)
}

var errRowTooLong = fmt.Errorf("a row is longer than %d bytes: is a quote never closed?", maxRow)

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := b.from.Read(p)
	b.left -= n
	b.total(n)
	return n, err
}

// openTable reads the header and finds the columns that the config names. count
// is told of each piece of the file that is read.
func openTable(from io.Reader, config *PlayConfig, count func(n int)) (*table, error) {
	t := &table{budget: &budget{from: from, left: maxRow, total: count}}
	text := bufio.NewReaderSize(t.budget, 64<<10)
	comma, err := start(text, config.Comma)
	if err != nil {
		return nil, err
	}
	t.csv = csv.NewReader(text)
	t.csv.Comma = comma
	header, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: its first line must name the columns")
	}
	if err != nil {
		return nil, fmt.Errorf("read the first line: %w", err)
	}
	t.csv.ReuseRecord = true
	for _, name := range header {
		t.columns = append(t.columns, strings.TrimSpace(name))
	}
	return t, t.choose(config)
}

// start skips a byte-order mark and finds out what separates columns.
func start(text *bufio.Reader, comma rune) (rune, error) {
	mark, _ := text.Peek(3)
	switch {
	case bytes.Equal(mark, []byte("\xef\xbb\xbf")):
		_, _ = text.Discard(3)
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		return 0, errors.New("the file is UTF-16: save it as UTF-8")
	case bytes.HasPrefix(mark, []byte("\x1f\x8b")):
		return 0, errors.New("the file is gzip: unpack it first")
	}
	if comma != 0 {
		return comma, nil
	}
	line, _ := text.Peek(text.Size())
	line, _, _ = bytes.Cut(line, []byte("\n"))
	comma = ','
	for _, other := range []rune{';', '\t'} {
		if bytes.Count(line, []byte(string(other))) > bytes.Count(line, []byte(string(comma))) {
			comma = other
		}
	}
	return comma, nil
}

// choose finds the columns.
func (t *table) choose(config *PlayConfig) (err error) {
	if t.device, err = t.find("device", config.Device); err != nil {
		return err
	}
	if t.time, err = t.find("time", config.Time); err != nil {
		return err
	}
	if err := t.chooseMetrics(config.Metrics); err != nil {
		return err
	}
	if err := t.rename(config.Rename); err != nil {
		return err
	}
	taken := make(map[string]bool)
	for _, m := range t.metrics {
		if taken[m.name] {
			return fmt.Errorf("two columns would both be metric %s: rename one", quote(m.name))
		}
		taken[m.name] = true
	}
	if len(t.metrics) == 0 {
		return fmt.Errorf("no column is left for metrics; there are %s", t.listed())
	}
	return nil
}

func (t *table) chooseMetrics(names []string) error {
	for _, name := range names {
		i, err := t.find("metric", name)
		if err != nil {
			return err
		}
		t.metrics = append(t.metrics, column{i, t.columns[i]})
	}
	if len(names) > 0 {
		return nil
	}
	for i, name := range t.columns {
		if i != t.device && i != t.time && name != "" {
			t.metrics = append(t.metrics, column{i, name})
		}
	}
	return nil
}

func (t *table) rename(to map[string]string) error {
	for from, name := range to {
		i, err := t.find("renamed", from)
		if err != nil {
			return err
		}
		for k := range t.metrics {
			if t.metrics[k].index == i {
				t.metrics[k].name = name
			}
		}
	}
	return nil
}

// find answers the column of that name; upper and lower case are the same unless
// that would leave two.
func (t *table) find(what, name string) (int, error) {
	if name == "" {
		return 0, fmt.Errorf("say which is the %s column; there are %s", what, t.listed())
	}
	found, exact, folded := -1, 0, 0
	for i, column := range t.columns {
		switch {
		case column == name:
			exact++
			found = i
		case strings.EqualFold(column, name):
			folded++
			if exact == 0 {
				found = i
			}
		}
	}
	if exact > 1 || exact == 0 && folded > 1 {
		return 0, fmt.Errorf("more than one column is named %q; there are %s", name, t.listed())
	}
	if found < 0 {
		return 0, fmt.Errorf("there is no column %q; there are %s", name, t.listed())
	}
	return found, nil
}

// What an error lists of a header: a file that is no table may be one column
// with megabytes of name.
const (
	mostListed = 20 // names
	mostQuoted = 40 // bytes of each
)

// listed are the columns there are, in words for an error.
func (t *table) listed() string {
	shown := t.columns[:min(len(t.columns), mostListed)]
	quoted := make([]string, len(shown))
	for i, name := range shown {
		quoted[i] = quote(name)
	}
	list := strings.Join(quoted, ", ")
	if more := len(t.columns) - len(shown); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// quote quotes the beginning of a name from the file.
func quote(name string) string {
	if len(name) <= mostQuoted {
		return strconv.Quote(name)
	}
	cut := mostQuoted
	for cut > mostQuoted-utf8.UTFMax && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return strconv.Quote(name[:cut]) + "…"
}

// next reads a row and the line it begins in. A *rowError is this row's alone;
// io.EOF is the end; any other error ends the table.
func (t *table) next() (row []string, line int, err error) {
	t.budget.left = maxRow
	row, err = t.csv.Read()
	var broken *csv.ParseError
	switch {
	case err == nil:
		line, _ = t.csv.FieldPos(0)
		return row, line, nil
	case errors.Is(err, csv.ErrFieldCount):
		line, _ = t.csv.FieldPos(0)
		return nil, line, &rowError{"columns", fmt.Sprintf("%d columns where the first line has %d", len(row), len(t.columns))}
	case errors.As(err, &broken):
		return nil, broken.StartLine, &rowError{"csv", broken.Err.Error()}
	}
	return nil, 0, err
}

// converter makes readings of rows.
type converter struct {
	table     *table
	names     *names
	layout    layout
	zone      *time.Location
	reading   telemetry.Reading
	size      int // of the last payload
	notFinite int // cells left out: NaN and infinity
}

// convert makes the row's message. The error is a *rowError or a
// *telemetry.Refusal.
func (c *converter) convert(row []string, now time.Time) (device int, at time.Time, m message, err error) {
	device, name, err := c.names.of(strings.TrimSpace(row[c.table.device]))
	if err != nil {
		return 0, at, m, err
	}
	r := &c.reading
	text := strings.TrimSpace(row[c.table.time])
	at, err = c.layout.parse(text, c.zone)
	if err != nil {
		return 0, at, m, &rowError{"time", fmt.Sprintf("%.40q is not a time like %s", text, c.layout.name)}
	}
	r.Device, r.Time, r.Metrics = name, at, r.Metrics[:0]
	for _, column := range c.table.metrics {
		if value, said := c.value(strings.TrimSpace(row[column.index])); said {
			r.Metrics = append(r.Metrics, telemetry.Metric{Name: column.name, Value: value})
		}
	}
	if len(r.Metrics) == 0 {
		return 0, at, m, &rowError{"empty", "no cell has a value"}
	}
	if err := r.Check(now); err != nil {
		return 0, at, m, err
	}
	payload := r.AppendJSON(make([]byte, 0, c.size+32))
	c.size = len(payload)
	return device, r.Time, message{topic: "telemetry/" + name, payload: payload}, nil
}

// value reads a cell: a number, true or false, or a text. Empty says nothing,
// and neither does what computes to no finite number.
func (c *converter) value(cell string) (telemetry.Value, bool) {
	if cell == "" {
		return telemetry.Value{}, false
	}
	if !strings.ContainsAny(cell, "xX_") { // Go's own notations, not a recording's
		if f, err := strconv.ParseFloat(cell, 64); err == nil {
			if math.IsNaN(f) || math.IsInf(f, 0) {
				c.notFinite++
				return telemetry.Value{}, false
			}
			return telemetry.Number(f), true
		}
	}
	switch {
	case strings.EqualFold(cell, "true"):
		return telemetry.Bool(true), true
	case strings.EqualFold(cell, "false"):
		return telemetry.Bool(false), true
	}
	return telemetry.Text(cell), true
}
