package broadcaster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"millrace/telemetry"
)

// Log is the log as the hub reads it.
type Log interface {
	// Bounds are the cursors at the first record there is and behind the last.
	Bounds(ctx context.Context) (first, next telemetry.Cursor, err error)
	// Follow hands out the records between two cursors, each partition's in
	// order; to without Next: for ever. The records are only lent.
	// [telemetry.ErrGone], wrapped: from is not in this log any more.
	Follow(ctx context.Context, from, to telemetry.Cursor, handle func([]telemetry.Record) error) error
}

// History is what lies before the log.
type History interface {
	// Latest hands out the newest values, one reading a device, and answers the
	// cursor from which on the log has what is not among them.
	Latest(ctx context.Context, log uint64, yield func(*telemetry.Reading) error) (telemetry.Cursor, error)
	// Replay hands out the readings of the span that match, in order of (time,
	// device), and answers the cursor at which the log goes on.
	Replay(ctx context.Context, log uint64, span telemetry.Span, yield func(*telemetry.Reading) error) (telemetry.Cursor, error)
}

// Config is what a [Hub] needs.
type Config struct {
	Log     Log     // required
	History History // nil: there is no past beyond the log
	Limits  Limits  // zero fields take their defaults
	Logger  *slog.Logger
	Events  Events
}

// Hub follows the log and shows it to clients. Safe for concurrent use.
type Hub struct {
	log     Log
	history History
	limits  Limits
	logger  *slog.Logger
	events  Events

	ring      *ring
	latest    *latest
	chunks    *chunks
	catchUps  chan struct{} // a place in it is held while reading the log or history
	playbacks chan struct{} // the same for playback at a speed, which can take hours
	ready     chan struct{} // closed once the hub has reached what was the log's end at its start
	runners   sync.WaitGroup
	reached   atomic.Uint64 // pos, readable without mu

	// ctx ends all runners. It ends after Run's, when every client was told.
	ctx    context.Context
	cancel context.CancelFunc

	// mu protects what follows. A round holds it from its first byte to its
	// last, so membership never changes within a round.
	mu      sync.Mutex
	pos     uint64           // where all live subscriptions stand
	vec     telemetry.Cursor // the cursor there; its Next is never changed in place
	target  telemetry.Cursor // what makes the hub ready
	groups  map[groupKey]*group
	clients map[*Client]struct{}
	places  map[string]int // clients by address
	moved   chan struct{}  // closed at the next round that moves pos; nil: nobody waits
	closed  bool

	// What a round uses again and again; only the pump touches it.
	parsed  []telemetry.Reading
	entries []entry
	items   []Item
	jobs    []job
	scratch telemetry.Reading
	beaten  time.Time
}

// NewHub makes a hub; it shows nothing before Run.
func NewHub(c Config) (*Hub, error) {
	if c.Log == nil {
		return nil, errors.New("broadcaster: Config.Log is missing: the hub shows a log")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	limits := c.Limits.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	return &Hub{
		log: c.Log, history: c.History, limits: limits, logger: c.Logger, events: c.Events,
		ring:      newRing(limits.RingBytes, limits.RingReadings),
		latest:    newLatest(limits.Devices),
		chunks:    newChunks(limits.SharedBytes),
		catchUps:  make(chan struct{}, limits.CatchUps),
		playbacks: make(chan struct{}, limits.Playbacks),
		ready:     make(chan struct{}),
		ctx:       ctx, cancel: cancel,
		groups: make(map[groupKey]*group), clients: make(map[*Client]struct{}), places: make(map[string]int),
	}, nil
}

// Limits are the hub's limits with their defaults filled in.
func (h *Hub) Limits() Limits { return h.limits }

// Ready is closed once the hub has reached what was the end of the log when it
// started: from then on live means live.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// grace is how long clients have to take their last bytes when the hub stops.
const grace = 2 * time.Second

// Run follows the log until ctx ends, then closes every client with [Stopping]
// within a few seconds and returns nil. It may be called once.
func (h *Hub) Run(ctx context.Context) error {
	feeding := make(chan struct{})
	go func() { // ends with ctx
		defer close(feeding)
		h.feed(ctx)
	}()
	h.pump(ctx)
	<-feeding
	h.round(time.Now())
	h.closeAll()
	return nil
}

func (h *Hub) closeAll() {
	h.mu.Lock()
	h.closed = true
	clients := make([]*Client, 0, len(h.clients))
	for c := range h.clients {
		if c.out != nil { // else Attach closes it
			clients = append(clients, c)
		}
	}
	h.mu.Unlock()
	for _, c := range clients {
		c.out.finish(c.bye(Stopping), grace)
	}
	patience := time.NewTimer(grace + time.Second)
	defer patience.Stop()
	for _, c := range clients {
		select {
		case <-c.out.gone:
		case <-patience.C:
			h.logger.Warn("a client did not take its last bytes in time", slog.String("address", c.address))
			c.out.abort()
		}
		c.drop(Stopping)
	}
	h.cancel()
	h.runners.Wait()
}

// feed reads the log into the ring, for ever. A log that is away is tried
// again: clients keep their places and see nothing but silence.
func (h *Hub) feed(ctx context.Context) {
	const shortest, longest = 100 * time.Millisecond, 5 * time.Second
	wait := shortest
	for {
		before := h.reached.Load()
		err := h.read(ctx)
		if ctx.Err() != nil {
			return
		}
		if h.reached.Load() != before {
			wait = shortest
		}
		h.logger.Warn("reading the log failed; trying again", slog.Any("error", err), slog.Duration("wait", wait))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, longest)
	}
}

// read follows the log from where the ring ends; at first, or when that place
// is gone, from where the hub begins.
func (h *Hub) read(ctx context.Context) error {
	h.ring.mu.Lock()
	from := h.ring.next.Clone()
	h.ring.mu.Unlock()
	if !Placed(from) {
		begin, target, err := h.begin(ctx)
		if err != nil {
			return err
		}
		h.restart(begin, target)
		from = begin
	}
	err := h.log.Follow(ctx, from, telemetry.Cursor{}, func(records []telemetry.Record) error {
		malformed, err := h.ring.append(ctx, records)
		h.events.appended(len(records), malformed)
		return err
	})
	if errors.Is(err, telemetry.ErrGone) {
		h.ring.reset(telemetry.Cursor{}) // the next try begins anew
	}
	if err == nil {
		err = errors.New("the log ended")
	}
	return fmt.Errorf("broadcaster: follow the log: %w", err)
}

// begin is where the hub begins to read, and what was the log's end then. With
// a history that is where the history ends; without, the ring's worth of
// readings before the log's end, so that latest values are not empty at first.
func (h *Hub) begin(ctx context.Context) (from, end telemetry.Cursor, err error) {
	first, end, err := h.log.Bounds(ctx)
	if err != nil {
		return from, end, fmt.Errorf("broadcaster: bounds of the log: %w", err)
	}
	from = end.Clone()
	if h.history == nil {
		back := int64(h.limits.RingReadings / 2 / max(1, len(end.Next)))
		for p := range from.Next {
			from.Next[p] = max(from.Next[p]-back, first.Next[p])
		}
		return from, end, nil
	}
	h.latest.forget()
	known, err := h.history.Latest(ctx, end.Log, func(r *telemetry.Reading) error {
		h.latest.update(r, 0)
		return nil
	})
	if err != nil {
		return from, end, fmt.Errorf("broadcaster: latest values from history: %w", err)
	}
	for p := range from.Next {
		if p < len(known.Next) {
			from.Next[p] = min(max(known.Next[p], first.Next[p]), end.Next[p])
		} else {
			from.Next[p] = first.Next[p]
		}
	}
	return from, end, nil
}

// restart puts hub and ring to a place in the log. Subscriptions that were live
// become travellers: their own cursors decide whether something is gone.
func (h *Hub) restart(at, target telemetry.Cursor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.groups {
		for len(g.members) > 0 {
			s := g.members[0]
			h.leave(s)
			h.start(s)
		}
	}
	h.ring.reset(at)
	h.pos, h.vec, h.target = h.ring.head, at.Clone(), target
	h.reached.Store(h.pos)
	h.checkReady()
	h.logger.Info("following the log", slog.Any("from", at.Next), slog.Any("end", target.Next))
}

func (h *Hub) checkReady() {
	select {
	case <-h.ready:
	default:
		if Placed(h.vec) && covers(h.vec, h.target) {
			close(h.ready)
		}
	}
}

// Latest are the latest values that the query wants, in canonical JSON in order
// of the devices, and the cursor at which they were the latest: a subscription
// from there goes on without a seam.
func (h *Hub) Latest(q *Query) ([][]byte, telemetry.Cursor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latest.matching(q, 0), h.vec
}

// Top are the n devices that match with the greatest latest values of a metric
// (least: the smallest).
func (h *Hub) Top(f *telemetry.Filter, metric string, n int, least bool) []Ranked {
	return h.latest.top(f, metric, n, least)
}

// Devices is how many devices have latest values.
func (h *Hub) Devices() int { return h.latest.count() }
