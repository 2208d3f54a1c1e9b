package broadcaster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"millrace/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLog is a log in memory. Its readers merge the partitions in an order that
// their seed decides.
type fakeLog struct {
	mu         sync.Mutex
	id         uint64
	partitions [][]telemetry.Record
	first      []int64
	grown      chan struct{}
	follows    int
}

func newFakeLog(partitions int) *fakeLog {
	return &fakeLog{id: 7, partitions: make([][]telemetry.Record, partitions), first: make([]int64, partitions), grown: make(chan struct{})}
}

func (l *fakeLog) append(partition int, value string) telemetry.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := telemetry.Position{Partition: int32(partition), Offset: int64(len(l.partitions[partition]))}
	l.partitions[partition] = append(l.partitions[partition], telemetry.Record{Position: p, Entry: telemetry.Entry{Value: []byte(value)}})
	close(l.grown)
	l.grown = make(chan struct{})
	return p
}

// expire makes all but the newest keep records of each partition gone.
func (l *fakeLog) expire(keep int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.first {
		l.first[p] = max(l.first[p], int64(len(l.partitions[p])-keep))
	}
}

// recreate deletes the log and makes it anew.
func (l *fakeLog) recreate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id++
	n := len(l.partitions)
	l.partitions, l.first = make([][]telemetry.Record, n), make([]int64, n)
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *fakeLog) Bounds(context.Context) (first, next telemetry.Cursor, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = telemetry.Cursor{Log: l.id, Next: slices.Clone(l.first)}
	next = telemetry.Cursor{Log: l.id}
	for _, records := range l.partitions {
		next.Next = append(next.Next, int64(len(records)))
	}
	return first, next, nil
}

// reader is a fakeLog that merges in an order of its own.
type reader struct {
	*fakeLog
	mu     sync.Mutex
	random *rand.Rand
}

func (r *reader) intn(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(n)
}

func (r *reader) Follow(ctx context.Context, from, to telemetry.Cursor, handle func([]telemetry.Record) error) error {
	at := from.Clone()
	for {
		r.fakeLog.mu.Lock()
		r.follows++
		id, grown := r.id, r.grown
		var open []int
		for p, records := range r.partitions {
			for len(at.Next) <= p {
				at.Next = append(at.Next, 0)
			}
			if id == from.Log && at.Next[p] < r.first[p] {
				r.fakeLog.mu.Unlock()
				return fmt.Errorf("fake: partition %d: %w", p, telemetry.ErrGone)
			}
			if at.Next[p] < int64(len(records)) && (to.Next == nil || p < len(to.Next) && at.Next[p] < to.Next[p]) {
				open = append(open, p)
			}
		}
		var batch []telemetry.Record
		if len(open) > 0 {
			p := open[r.intn(len(open))]
			n := min(int64(1+r.intn(5)), int64(len(r.partitions[p]))-at.Next[p])
			batch = slices.Clone(r.partitions[p][at.Next[p] : at.Next[p]+n])
			at.Next[p] += n
		}
		r.fakeLog.mu.Unlock()
		switch {
		case id != from.Log:
			return fmt.Errorf("fake: another log: %w", telemetry.ErrGone)
		case len(batch) > 0:
			if err := handle(batch); err != nil {
				return err
			}
			continue
		case to.Next != nil && covers(at, to):
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fakeHistory holds what has been taken out of the log up to a cursor.
type fakeHistory struct {
	mu       sync.Mutex
	readings []telemetry.Reading // in order of (time, device)
	next     telemetry.Cursor
}

func (f *fakeHistory) Latest(_ context.Context, _ uint64, yield func(*telemetry.Reading) error) (telemetry.Cursor, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.readings {
		if err := yield(&f.readings[i]); err != nil {
			return f.next, err
		}
	}
	return f.next, nil
}

func (f *fakeHistory) Replay(_ context.Context, _ uint64, span telemetry.Span, yield func(*telemetry.Reading) error) (telemetry.Cursor, error) {
	f.mu.Lock()
	readings, next := slices.Clone(f.readings), f.next.Clone()
	f.mu.Unlock()
	for i := range readings {
		r := &readings[i]
		behind := r.Time.After(span.After.Time) || r.Time.Equal(span.After.Time) && r.Device > span.After.Device
		if !behind || !span.To.IsZero() && !r.Time.Before(span.To) || !span.Filter.Match(r) {
			continue
		}
		if err := yield(r); err != nil {
			return next, err
		}
	}
	return next, nil
}

// store moves what the log holds into the history.
func (f *fakeHistory) store(l *fakeLog) {
	_, next, _ := l.Bounds(context.Background())
	f.mu.Lock()
	defer f.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, records := range l.partitions {
		from := int64(0)
		if p < len(f.next.Next) {
			from = f.next.Next[p]
		}
		for _, record := range records[from:] {
			var r telemetry.Reading
			if telemetry.ParseReading(record.Value, &r) == nil {
				f.readings = append(f.readings, r)
			}
		}
	}
	slices.SortStableFunc(f.readings, func(a, b telemetry.Reading) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Device, b.Device)
	})
	f.next = next
}

// lineForm writes a line for each reading and event, with its cursor.
type lineForm struct{}

func (lineForm) Readings(dst []byte, id string, b *Batch) []byte {
	at := b.Start()
	for i := range b.Items {
		at = b.After(i, at)
		dst = fmt.Appendf(dst, "%s %s %s\n", id, place(at), b.Items[i].JSON)
	}
	if len(b.Items) == 0 {
		dst = fmt.Appendf(dst, "%s %s nothing\n", id, place(b.To))
	}
	return dst
}

func (lineForm) Event(dst []byte, id string, e *Event) []byte {
	dst = fmt.Appendf(dst, "%s %s %s", id, place(e.Cursor), e.Name)
	if e.Name == EventSkipped {
		dst = fmt.Appendf(dst, " %d", e.Count)
	}
	if Placed(e.From) {
		dst = fmt.Appendf(dst, " from %s", place(e.From))
	}
	if e.Err != nil {
		dst = fmt.Appendf(dst, " %v", e.Err)
	}
	for _, r := range e.Readings {
		dst = fmt.Appendf(dst, " %s", r)
	}
	return append(dst, '\n')
}

func place(c telemetry.Cursor) string {
	if c.InPast() {
		return fmt.Sprintf("[%s %s]", c.Time.Format(time.TimeOnly), c.Device)
	}
	return fmt.Sprint(c.Next)
}

// fakeLink records what a client receives, and can stop taking it.
type fakeLink struct {
	mu       sync.Mutex
	got      []byte
	blocked  chan struct{} // nil: takes all
	closed   chan struct{}
	deadline time.Time
}

func newFakeLink() *fakeLink { return &fakeLink{closed: make(chan struct{})} }

func (l *fakeLink) Write(b []byte) (int, error) {
	l.mu.Lock()
	blocked, deadline := l.blocked, l.deadline
	l.mu.Unlock()
	if blocked != nil {
		ctx, cancel := context.WithCancel(context.Background())
		if !deadline.IsZero() {
			ctx, cancel = context.WithDeadline(context.Background(), deadline)
		}
		defer cancel()
		select {
		case <-blocked:
		case <-l.closed:
			return 0, context.Canceled
		case <-ctx.Done():
			return 0, timeout{}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, b...)
	return len(b), nil
}

func (l *fakeLink) SetWriteDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = t
	return nil
}

func (l *fakeLink) Close() error { close(l.closed); return nil }

func (l *fakeLink) block() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocked = make(chan struct{})
}

func (l *fakeLink) unblock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.blocked)
	l.blocked = nil
}

// take is what was received since the last take.
func (l *fakeLink) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := string(l.got)
	l.got = nil
	return got
}

// timeout is a write past its deadline.
type timeout struct{}

func (timeout) Error() string        { return "timeout" }
func (timeout) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// rig is a hub in a bubble.
type rig struct {
	t       *testing.T
	log     *fakeLog
	history *fakeHistory
	limits  Limits
	hub     *Hub
	cancel  context.CancelFunc
	done    chan struct{}
}

func (g *rig) start(seed uint64) {
	config := Config{Log: &reader{fakeLog: g.log, random: rand.New(rand.NewPCG(seed, 1))}, Limits: g.limits}
	if g.history != nil {
		config.History = g.history
	}
	hub, err := NewHub(config)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(g.t.Context())
	g.hub, g.cancel, g.done = hub, cancel, make(chan struct{})
	go func() {
		defer close(g.done)
		if err := hub.Run(ctx); err != nil {
			g.t.Error(err)
		}
	}()
	<-hub.Ready()
}

func (g *rig) stop() {
	g.cancel()
	<-g.done
}

// connect attaches a client that records.
func (g *rig) connect() (*Client, *fakeLink) {
	g.t.Helper()
	link := newFakeLink()
	c, err := g.hub.Attach(ClientConfig{Open: func() (Link, error) { return link, nil }, Form: lineForm{}, Kind: "test", Address: "here"})
	if err != nil {
		g.t.Fatal(err)
	}
	return c, link
}

func query(t *testing.T, text string) Query {
	t.Helper()
	values, err := url.ParseQuery(text)
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParseQuery(values, time.Now())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return q
}

// said is a reading in canonical form, at seconds after the bubble's midnight.
func said(device string, second int, values string) string {
	return fmt.Sprintf(`{"device":%q,"time":"2000-01-01T00:%02d:%02d.000000Z","values":{%s}}`, device, second/60, second%60, values)
}
