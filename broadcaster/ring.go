package broadcaster

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"millrace/telemetry"
)

// stride is how many places lie between two marks, and how many readings a
// runner takes at once.
const stride = 512

// entry is a reading that lies in the ring.
type entry struct {
	json []byte
	telemetry.Position
}

// entrySize is what an entry costs besides its bytes.
const entrySize = 40

// mark is a cursor at a place of the ring.
type mark struct {
	seq    uint64
	cursor telemetry.Cursor
}

// ring keeps the newest readings in the order in which this hub read them. A
// place in it is a sequence number. It holds [tail, head), and [flushed, head)
// has not been in a round yet: that part is never evicted, append waits.
type ring struct {
	maxBytes, maxReadings int

	wake chan struct{} // there is something for a round
	room chan struct{} // a round has made room

	mu      sync.Mutex // protects what follows
	entries []entry    // circular; its length is a power of two
	tail    uint64
	flushed uint64
	head    uint64
	bytes   int
	first   telemetry.Cursor // at tail
	next    telemetry.Cursor // at head
	marks   []mark           // in order, none before tail but the newest such
	store   arena
	fresh   []telemetry.Reading // the parsed readings [flushed, head)
}

func newRing(maxBytes, maxReadings int) *ring {
	return &ring{
		maxBytes: maxBytes, maxReadings: maxReadings, entries: make([]entry, 1024),
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// reset empties the ring; the log goes on at the cursor. Sequence numbers go on.
func (r *ring) reset(at telemetry.Cursor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.entries)
	r.tail, r.flushed, r.bytes = r.head, r.head, 0
	r.first, r.next = at.Clone(), at.Clone()
	r.marks, r.fresh = nil, r.fresh[:0]
}

// append takes over records of the log, in their order. It copies what it
// keeps. It waits while half the ring waits for a round, which never waits for
// a client.
func (r *ring) append(ctx context.Context, records []telemetry.Record) (malformed int, err error) {
	for len(records) > 0 {
		part := records[:min(len(records), stride)]
		records = records[len(part):]
		if err := r.waitRoom(ctx); err != nil {
			return malformed, err
		}
		r.mu.Lock()
		for i := range part {
			if !r.addLocked(&part[i]) {
				malformed++
			}
		}
		r.mu.Unlock()
		signal(r.wake)
	}
	return malformed, nil
}

func (r *ring) waitRoom(ctx context.Context) error {
	for {
		r.mu.Lock()
		waiting := int(r.head - r.flushed)
		size := r.bytes
		r.mu.Unlock()
		// Bytes: the ring is over its bound only while nothing can be evicted.
		if waiting < r.maxReadings/2 && size < 2*r.maxBytes || waiting == 0 {
			return nil
		}
		select {
		case <-r.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// addLocked puts one record at the head. What is not a reading is left out, and
// answered with false.
func (r *ring) addLocked(record *telemetry.Record) bool {
	for int(record.Partition) >= len(r.next.Next) {
		r.first.Next = append(r.first.Next, 0)
		r.next.Next = append(r.next.Next, 0)
	}
	if r.next.Seen(record.Position) {
		return true // a reader that started anew may say it again
	}
	if len(r.fresh) == cap(r.fresh) {
		r.fresh = slices.Grow(r.fresh, max(64, len(r.fresh)))
	}
	r.fresh = r.fresh[:len(r.fresh)+1]
	reading := &r.fresh[len(r.fresh)-1]
	json, ok := r.store.keep(record.Value, reading)
	if record.Dead != nil || !ok {
		r.fresh = r.fresh[:len(r.fresh)-1]
		r.next.Advance(record.Position)
		return record.Dead != nil
	}
	r.placeLocked(entry{json, record.Position})
	return true
}

func (r *ring) placeLocked(e entry) {
	if r.head%stride == 0 {
		r.marks = append(r.marks, mark{r.head, r.next.Clone()})
	}
	if int(r.head-r.tail) == len(r.entries) {
		r.grow()
	}
	*r.at(r.head) = e
	r.head++
	r.bytes += len(e.json) + entrySize
	r.next.Advance(e.Position)
	r.evictLocked()
}

func (r *ring) at(seq uint64) *entry { return &r.entries[seq&uint64(len(r.entries)-1)] }

func (r *ring) grow() {
	wider := make([]entry, 2*len(r.entries))
	for seq := r.tail; seq < r.head; seq++ {
		wider[seq&uint64(len(wider)-1)] = *r.at(seq)
	}
	r.entries = wider
}

func (r *ring) evictLocked() {
	for r.tail < r.flushed && (r.bytes > r.maxBytes || int(r.head-r.tail) > r.maxReadings) {
		e := r.at(r.tail)
		r.first.Advance(e.Position)
		r.bytes -= len(e.json) + entrySize
		*e = entry{}
		r.tail++
	}
	for len(r.marks) > 1 && r.marks[1].seq <= r.tail {
		r.marks = r.marks[1:]
	}
}

// take hands out what has not been in a round: the parsed readings, in exchange
// for a slice to parse the next ones into, and the entries.
func (r *ring) take(parsed []telemetry.Reading, entries []entry) ([]telemetry.Reading, []entry, span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := span{from: r.flushed, to: r.head, after: r.next.Clone()}
	entries = r.copyLocked(entries[:0], r.flushed, r.head)
	fresh := r.fresh
	r.fresh = parsed[:0]
	r.flushed = r.head
	r.evictLocked()
	signal(r.room)
	return fresh, entries, s
}

// span is a piece of the ring.
type span struct {
	from, to uint64
	after    telemetry.Cursor // at to
}

func (r *ring) copyLocked(dst []entry, from, to uint64) []entry {
	for seq := from; seq < to; seq++ {
		dst = append(dst, *r.at(seq))
	}
	return dst
}

// read copies the entries [from, to) and answers the cursors at both ends; ok
// is false if from has been evicted.
func (r *ring) read(dst []entry, from, to uint64) (entries []entry, before, after telemetry.Cursor, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from < r.tail {
		return dst, before, after, false
	}
	entries = r.copyLocked(dst[:0], from, to)
	before = r.cursorLocked(from)
	after = before.Clone()
	for i := range entries {
		after.Advance(entries[i].Position)
	}
	return entries, before, after, true
}

// cursorLocked is the cursor at a place that the ring holds.
func (r *ring) cursorLocked(seq uint64) telemetry.Cursor {
	from, cursor := r.tail, r.first
	for _, m := range slices.Backward(r.marks) {
		if m.seq <= seq {
			if m.seq >= r.tail {
				from, cursor = m.seq, m.cursor
			}
			break
		}
	}
	cursor = cursor.Clone()
	for len(cursor.Next) < len(r.next.Next) {
		cursor.Next = append(cursor.Next, 0)
	}
	for ; from < seq; from++ {
		cursor.Advance(r.at(from).Position)
	}
	return cursor
}

// locate finds a place before which the ring holds nothing that the cursor has
// not seen, and whether the ring has all that the cursor has not seen. The
// entries behind the place must still be sifted: another instance may have
// merged the partitions in another order.
func (r *ring) locate(c telemetry.Cursor) (seq uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Log != r.next.Log || !covers(c, r.first) {
		return 0, false
	}
	for _, m := range slices.Backward(r.marks) {
		if m.seq < r.tail {
			break
		}
		if covers(c, m.cursor) {
			return m.seq, true
		}
	}
	return r.tail, true
}

// covers says whether everything before d lies before c.
func covers(c, d telemetry.Cursor) bool {
	for p, next := range d.Next {
		if next > 0 && (p >= len(c.Next) || c.Next[p] < next) {
			return false
		}
	}
	return true
}

// merge is the cursor that has seen what either has.
func merge(c, d telemetry.Cursor) telemetry.Cursor {
	m := c.Clone()
	m.Log = d.Log
	for p, next := range d.Next {
		if p >= len(m.Next) {
			m.Next = append(m.Next, next)
		}
		m.Next[p] = max(m.Next[p], next)
	}
	return m
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// arena copies small byte slices into blocks, so that a reading costs no
// allocation of its own and does not keep a whole fetch from Kafka alive.
type arena struct{ block []byte }

const arenaBlock = 64 << 10

func (a *arena) copy(b []byte) []byte {
	if len(b) > arenaBlock/8 {
		return slices.Clone(b)
	}
	if cap(a.block)-len(a.block) < len(b) {
		a.block = make([]byte, 0, arenaBlock)
	}
	n := len(a.block)
	a.block = append(a.block, b...)
	return a.block[n:len(a.block):len(a.block)]
}

// isAt says whether the cursor is the one at a place that the ring holds.
func (r *ring) isAt(seq uint64, c telemetry.Cursor) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq < r.tail {
		return false
	}
	at := r.cursorLocked(seq)
	return covers(at, c) && covers(c, at)
}

// keep copies a lent reading and parses it into r. Others write to the topic
// too, and one broken reading would break the messages of every client: so
// what is no reading is not ok, and line breaks, which would break an event
// stream, are taken out.
func (a *arena) keep(lent []byte, r *telemetry.Reading) (json []byte, ok bool) {
	if telemetry.ParseReading(lent, r) != nil || telemetry.CheckDevice(r.Device) != nil ||
		r.Time.IsZero() || len(r.Metrics) == 0 {
		return nil, false
	}
	if bytes.ContainsAny(lent, "\r\n") {
		return r.AppendJSON(nil), true
	}
	return a.copy(lent), true
}
