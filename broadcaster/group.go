package broadcaster

import (
	"cmp"
	"slices"
	"time"

	"millrace/telemetry"
)

// groupKey is what subscriptions must have in common to receive the same bytes.
type groupKey struct {
	form   Form
	id     string
	filter string
	every  time.Duration
	to     time.Time
}

// group is the subscriptions that want the same bytes. All its fields are
// protected by Hub.mu, but key and query never change.
type group struct {
	key     groupKey
	query   Query
	members []*subscription // the live ones; all stand at Hub.pos
	refs    int             // members, and runners on their way to become one
	matched uint64          // readings that matched, of all rounds: what skipped counts by

	// With key.every: what waits for the next flush.
	pending map[string]pending
	flushed uint64           // the place of the last flush
	cursor  telemetry.Cursor // there
	base    uint64           // matched there
	due     time.Time        // of the next flush
}

// pending is a device's newest reading that waits for a flush.
type pending struct {
	item Item
	seq  uint64
}

// frame is encoded bytes that carry a piece of the ring.
type frame struct {
	from, to      uint64
	before, after telemetry.Cursor
	bytes         []byte
	matched       int
	base          uint64 // the group's matched count before it
}

// job is a frame for a subscription.
type job struct {
	s *subscription
	f *frame
}

// acquire is the group of a subscription, with one more reference.
func (h *Hub) acquire(s *subscription) *group {
	q := &s.query
	key := groupKey{s.client.form, s.id, q.Filter.Key(), q.Every, q.To}
	g := h.groups[key]
	if g == nil {
		g = &group{key: key, query: *q, flushed: h.pos, cursor: h.vec}
		if key.every > 0 {
			g.pending = make(map[string]pending)
		}
		h.groups[key] = g
	}
	g.refs++
	return g
}

func (h *Hub) release(g *group) {
	if g.refs--; g.refs == 0 {
		delete(h.groups, g.key)
	}
}

// join makes a subscription that stands at Hub.pos, and holds a reference to
// its group, a member of it.
func (h *Hub) join(s *subscription) {
	g := s.group
	s.slot = len(g.members)
	g.members = append(g.members, s)
	s.live, s.late = true, true
	s.joined, s.joinedAt, s.at, s.base = h.pos, h.vec, h.vec, g.matched
	s.told = time.Now().UnixNano()
	s.client.live = append(s.client.live, s)
}

// leave takes a member out of its group; its cursor tells where it stands.
func (h *Hub) leave(s *subscription) {
	g := s.group
	final := len(g.members) - 1
	g.members[s.slot] = g.members[final]
	g.members[s.slot].slot = s.slot
	g.members[final] = nil
	g.members = g.members[:final]
	s.at = h.vec
	if len(g.pending) > 0 {
		// What waits for a flush has not been sent.
		s.at = g.cursor
		if s.joined > g.flushed {
			s.at = s.joinedAt
		}
	}
	s.live, s.late = false, false
	s.group = nil
	h.release(g)
	s.client.live = slices.DeleteFunc(s.client.live, func(o *subscription) bool { return o == s })
}

// lag turns a member whose client did not take a frame into a traveller that
// stands before the frame. It keeps its reference to the group.
func (h *Hub) lag(j job) {
	s, g := j.s, j.s.group
	g.refs++
	h.leave(s)
	s.group, s.late = g, true
	s.seq, s.at, s.base = j.f.from, j.f.before, j.f.base
	h.events.lagging()
	h.start(s)
}

// advance puts a round's readings before the group: the jobs are what its
// members are to be offered.
func (h *Hub) advance(g *group, s span, now time.Time) {
	h.items = picker{&g.query, h.parsed, &h.scratch}.pick(h.items[:0], h.entries)
	base := g.matched
	g.matched += uint64(len(h.items))
	if g.key.every > 0 {
		h.hold(g, s, base)
		if !now.Before(g.due) && len(g.pending) > 0 {
			h.flush(g, s, now)
		}
		return
	}
	if len(h.items) == 0 || len(g.members) == 0 {
		return
	}
	batch := Batch{Items: h.items, From: h.vec, To: s.after}
	f := &frame{from: s.from, to: s.to, before: h.vec, after: s.after, matched: len(h.items), base: base}
	f.bytes = g.key.form.Readings(make([]byte, 0, sizeOf(h.items)), g.key.id, &batch)
	for _, m := range g.members {
		h.jobs = append(h.jobs, job{m, f})
	}
}

// sizeOf guesses how long the messages of items get.
func sizeOf(items []Item) int {
	size := 128
	for i := range items {
		size += len(items[i].JSON) + 80
	}
	return size
}

// hold keeps each device's newest of the picked readings for the next flush.
// base is the group's matched count before them.
func (h *Hub) hold(g *group, s span, base uint64) {
	if len(g.pending) == 0 && len(h.items) > 0 {
		// Nothing waits: all before this round counts as flushed.
		g.flushed, g.cursor, g.base = s.from, h.vec, base
	}
	next := 0
	for i := range h.items {
		for h.entries[next].Position != h.items[i].Position {
			next++
		}
		device := h.parsed[next].Device
		g.pending[device] = pending{h.items[i], s.from + uint64(next)}
	}
}

// flush offers what waits. A member that joined since the last flush has had
// what lay before its place.
func (h *Hub) flush(g *group, s span, now time.Time) {
	var all []pending
	for _, p := range g.pending {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pending) int { return cmp.Compare(a.seq, b.seq) })
	frames := make(map[uint64]*frame)
	for _, m := range g.members {
		begin := frame{from: g.flushed, before: g.cursor, base: g.base}
		if m.joined > g.flushed {
			begin = frame{from: m.joined, before: m.joinedAt, base: m.base}
		}
		f := frames[begin.from]
		if f == nil {
			f = g.encode(all, begin, s)
			frames[begin.from] = f
		}
		if f.matched > 0 {
			h.jobs = append(h.jobs, job{m, f})
		}
	}
	clear(g.pending)
	g.flushed, g.cursor, g.base, g.due = s.to, s.after, g.matched, now.Add(g.key.every)
}

// encode completes a frame that has its beginning with what waits since then.
func (g *group) encode(all []pending, f frame, s span) *frame {
	var items []Item
	for _, p := range all {
		if p.seq >= f.from {
			items = append(items, p.item)
		}
	}
	f.to, f.after, f.matched = s.to, s.after, len(items)
	if len(items) > 0 {
		batch := Batch{Items: items, From: f.before, To: f.after}
		f.bytes = g.key.form.Readings(nil, g.key.id, &batch)
	}
	return &f
}

// picker picks what a query wants from entries. parsed are the entries'
// readings, or nil: then they are parsed as far as needed.
type picker struct {
	query   *Query
	parsed  []telemetry.Reading
	scratch *telemetry.Reading
}

// pick appends what the query wants of some entries. What is picked shares the
// entries' bytes unless metrics had to be taken out.
func (p picker) pick(dst []Item, entries []entry) []Item {
	verbatim := p.query.verbatim()
	for i := range entries {
		e := &entries[i]
		if !verbatim && !p.wants(i, e) {
			continue
		}
		item := Item{JSON: e.json, Position: e.Position}
		if !verbatim && len(p.query.Filter.Metrics) > 0 {
			item.JSON = p.scratch.AppendJSON(nil)
		}
		dst = append(dst, item)
	}
	return dst
}

// wants leaves what the query wants of the ith entry in scratch.
func (p picker) wants(i int, e *entry) bool {
	if p.parsed == nil {
		return telemetry.ParseReading(e.json, p.scratch) == nil && p.query.wants(p.scratch)
	}
	// Project changes metrics in place, and other groups want them as well.
	r := &p.parsed[i]
	p.scratch.Device, p.scratch.Time = r.Device, r.Time
	p.scratch.Metrics = append(p.scratch.Metrics[:0], r.Metrics...)
	return p.query.wants(p.scratch)
}
