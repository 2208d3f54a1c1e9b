package simulator

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"millrace/telemetry"
)

// PlayConfig says what to play, and how.
type PlayConfig struct {
	Broker Broker
	// File is a CSV file's name. Reader is used instead if it is set; it is read
	// into memory as a whole.
	File   string
	Reader io.Reader
	Comma  rune // between columns; 0: comma, semicolon or tab, whichever the first line has most of

	Device string // column; upper and lower case are the same
	Time   string // column
	// TimeLayout is rfc3339, unix, unix-ms, unix-us, unix-ns or Go's notation; "":
	// found by looking at the column.
	TimeLayout string
	Zone       *time.Location    // of times that name none; nil: UTC
	Metrics    []string          // columns; none: all others that have a name
	Rename     map[string]string // from column to metric

	// Speed is how many times as fast as the recording's clock to play. All rows
	// are read and put in order of time first, so the file must fit into memory.
	// 0: as fast as the broker acknowledges, in the file's order, row by row.
	Speed       float64
	Connections int // 0: four. A device stays on one, so that its order holds

	Log    *slog.Logger
	Events Events
	// Progress, if set, is called a few times a second, and once at the end, from
	// one goroutine at a time.
	Progress func(Progress)
}

// maxPaced bounds the rows that are put in order of time.
const maxPaced = 10_000_000

// ParseSpeed reads a speed: a positive number, or max, which is 0.
func ParseSpeed(text string) (float64, error) {
	if strings.EqualFold(text, "max") {
		return 0, nil
	}
	speed, err := strconv.ParseFloat(text, 64)
	if err != nil || !(speed > 0 && speed <= 1e9) {
		return 0, fmt.Errorf("simulator: speed %q is not max or a number above 0, such as 600", text)
	}
	return speed, nil
}

// Play publishes each row of a recording to telemetry/{device}, QoS 1, in the
// canonical form, and returns when the broker has acknowledged all of them.
//
// A broker that is lost meanwhile may come back within the broker's Patience:
// what it had not acknowledged is sent again, in order. Rows that cannot be
// played are counted in the report with their reasons. When ctx is cancelled,
// what is under way has five seconds to be acknowledged. The report is good in
// each case; an error says that not all of the file was acknowledged, except
// that a cancelled play that delivered all it had begun has none.
func Play(ctx context.Context, config PlayConfig) (Report, error) {
	p := &player{config: config, began: time.Now()}
	err := p.prepare()
	if err == nil {
		err = p.play(ctx)
	}
	if err != nil {
		err = fmt.Errorf("simulator: play %s: %w", p.config.File, err)
	}
	return p.report, err
}

type player struct {
	config PlayConfig
	report Report // the counters below are added to it at the end
	began  time.Time
	open   func() (io.ReadCloser, error)
	size   int64

	names     *names
	converter *converter
	links     []*link

	bytes, rows, published, acknowledged atomic.Int64
	paced                                atomic.Int64 // rows to play by the clock, 0 until known
}

func (p *player) prepare() error {
	c := &p.config
	if c.Speed < 0 {
		return fmt.Errorf("speed %g is below 0", c.Speed)
	}
	if c.Connections == 0 {
		c.Connections = 4
	}
	if c.Connections < 0 || c.Connections > 1000 {
		return fmt.Errorf("%d connections: have 1 to 1,000", c.Connections)
	}
	if c.Zone == nil {
		c.Zone = time.UTC
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Broker.Patience == 0 {
		c.Broker.Patience = 2 * time.Minute
	}
	p.names = newNames()
	if err := p.source(); err != nil {
		return err
	}
	found, err := p.layout()
	if err != nil {
		return err
	}
	p.report.TimeLayout = found.name
	p.converter = &converter{names: p.names, layout: found, zone: c.Zone}
	return p.connect()
}

// source makes open and size from File or Reader.
func (p *player) source() error {
	if p.config.Reader == nil {
		p.open = func() (io.ReadCloser, error) { return os.Open(p.config.File) }
		status, err := os.Stat(p.config.File)
		if err == nil && !status.Mode().IsRegular() {
			err = errors.New("it is not a regular file; give what it holds through a pipe")
		}
		if err == nil {
			p.size = status.Size()
		}
		return err
	}
	if p.config.File == "" {
		p.config.File = "input"
	}
	all, err := io.ReadAll(p.config.Reader)
	p.size = int64(len(all))
	p.open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(all)), nil }
	return err
}

// layout is the one given, or found by looking through the file.
func (p *player) layout() (layout, error) {
	given := layout{}
	var err error
	if p.config.TimeLayout != "" {
		if given, err = namedLayout(p.config.TimeLayout); err != nil {
			return given, err
		}
	}
	file, err := p.open()
	if err != nil {
		return given, err
	}
	defer file.Close()
	t, err := openTable(file, &p.config, func(int) {})
	if err != nil || given.parse != nil {
		return given, err // the columns are right, or not
	}
	d := newDetector(p.config.Zone)
	for {
		row, _, err := t.next()
		if err == nil {
			if cell := strings.TrimSpace(row[t.time]); cell != "" && d.look(cell) {
				return d.choose(t.columns[t.time])
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			return d.choose(t.columns[t.time])
		}
		if broken := (*rowError)(nil); !errors.As(err, &broken) {
			return given, err
		}
	}
}

func (p *player) connect() error {
	address, err := p.config.Broker.address()
	if err != nil {
		return err
	}
	base := linkConfig{
		address: address, user: p.config.Broker.User, password: p.config.Broker.Password,
		patience: p.config.Broker.Patience, log: p.config.Log, events: p.config.Events,
	}
	base.events.Acknowledged = func(n int) {
		p.acknowledged.Add(int64(n))
		if p.config.Events.Acknowledged != nil {
			p.config.Events.Acknowledged(n)
		}
	}
	run := rand.Text()[:8] // two plays at once must not take each other's connections
	for i := range p.config.Connections {
		own := base
		own.client = fmt.Sprintf("millrace-play-%s-%d", run, i+1)
		p.links = append(p.links, newLink(own, window))
	}
	return nil
}

// play runs the links, feeds them, and waits for them.
func (p *player) play(ctx context.Context) error {
	life, end := context.WithCancel(ctx)
	defer end()
	var running, telling sync.WaitGroup
	failed := make([]error, len(p.links)+1)
	for i, l := range p.links {
		running.Go(func() {
			if failed[i] = l.run(life); failed[i] != nil {
				end() // one fails, all stop
			}
		})
	}
	over := make(chan struct{})
	telling.Go(func() { p.tell(over) })
	if p.config.Speed > 0 {
		failed[len(p.links)] = p.clocked(life)
	} else {
		failed[len(p.links)] = p.stream(life)
	}
	for _, l := range p.links {
		close(l.in)
	}
	running.Wait()
	close(over)
	telling.Wait()
	p.complete(ctx)
	return first(failed)
}

// first is the error that says most: a link's own before what its end caused.
func first(errs []error) error {
	slices.SortStableFunc(errs, func(a, b error) int { return cmp.Compare(weight(a), weight(b)) })
	if weight(errs[0]) < 3 {
		return errs[0]
	}
	return nil
}

func weight(err error) int {
	switch {
	case err == nil:
		return 4
	case errors.Is(err, context.Canceled):
		return 3 // told by Report.Stopped
	case errors.Is(err, errUndelivered):
		return 2
	}
	return 1
}

func (p *player) complete(ctx context.Context) {
	p.report.Rows, p.report.Published = p.rows.Load(), p.published.Load()
	p.report.Acknowledged = p.acknowledged.Load()
	p.report.Devices, p.report.Renamed = len(p.names.list), p.names.renamed()
	p.report.NotFinite = p.converter.notFinite
	p.report.Duration = time.Since(p.began)
	p.report.Stopped = ctx.Err() != nil
	if p.config.Progress != nil {
		p.config.Progress(p.progress())
	}
}

// tell tells of the progress until over is closed.
func (p *player) tell(over <-chan struct{}) {
	if p.config.Progress == nil {
		return
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.config.Progress(p.progress())
		case <-over:
			return
		}
	}
}

func (p *player) progress() Progress {
	now := Progress{
		Rows: p.rows.Load(), Published: p.published.Load(), Acknowledged: p.acknowledged.Load(),
		Elapsed: time.Since(p.began),
	}
	if all := p.paced.Load(); p.config.Speed > 0 {
		now.Fraction = float64(now.Published) / float64(max(all, 1))
	} else {
		now.Fraction = float64(p.bytes.Load()) / float64(max(p.size, 1))
	}
	return now
}

// reject counts a row that is not played.
func (p *player) reject(line int, err error) {
	reason, refusal := "malformed", (*telemetry.Refusal)(nil)
	if broken := (*rowError)(nil); errors.As(err, &broken) {
		reason = broken.reason
	} else if errors.As(err, &refusal) {
		reason = string(refusal.Reason)
	}
	p.report.reject(reason, line, err.Error())
}
