package mqttd

import (
	"slices"
	"time"

	"millrace/ingest"

	"github.com/mochi-mqtt/server/v2/packets"
)

// pending is a message on its way into the log, and its place in the order of
// acknowledgements (MQTT 5 section 4.6: in the order of receipt).
type pending struct {
	conn     *conn
	id       uint16
	qos      byte
	size     int64           // taken from the budget
	received time.Time       // when its packet was read
	forward  *packets.Packet // for subscribers and retention; nil: nobody wants it
	raw      []byte          // an acknowledgement of mochi's that has to wait its turn
	queued   bool            // it has a place in the connection's queue

	// Guarded by conn.mu.
	done      bool
	answer    answer
	err       error
	followers []*pending // the same message, sent again while this was under way
}

// finish is the append's completion. It runs on the log's goroutine: it takes
// two short locks, starts at most one goroutine and never writes.
func (p *pending) finish(o ingest.Outcome) {
	s := p.conn.server
	s.room.give(p.size)
	defer s.appends.Done()
	if o.Err != nil {
		p.failed(o.Err)
	}
	a := answerTo(o)
	if a.code != 0 {
		p.forward = nil
	}
	if p.qos == 2 {
		// A PUBREC with an error ends the exchange, but only MQTT 5 has one.
		refused := a.code != 0 && p.conn.version == 5
		p.conn.session.settle(p, o.Err == nil && !refused)
	}
	if p.queued {
		p.resolve(a, o.Err)
	}
}

func (p *pending) failed(err error) {
	events := &p.conn.server.config.Events
	switch {
	case p.qos == 0:
		p.forward = nil
		if events.Dropped != nil {
			events.Dropped(err)
		}
	case events.Failed != nil:
		events.Failed(err)
	}
}

// resolve marks the message as done, and what follows it.
func (p *pending) resolve(a answer, err error) {
	c := p.conn
	c.mu.Lock()
	p.done, p.answer, p.err = true, a, err
	followers := p.followers
	p.followers = nil
	c.wakeLocked()
	c.mu.Unlock()
	for _, f := range followers {
		f.resolve(a, err)
	}
}

// follow makes p share what becomes of first.
func (p *pending) follow(first *pending) {
	first.conn.mu.Lock()
	done, a, err := first.done, first.answer, first.err
	if !done {
		first.followers = append(first.followers, p)
	}
	first.conn.mu.Unlock()
	if done {
		p.resolve(a, err)
	}
}

func (p *pending) settled() bool {
	p.conn.mu.Lock()
	defer p.conn.mu.Unlock()
	return p.done
}

// enqueue gives p its place in the order. false: the connection is closed, and
// nothing is taken from it any more.
func (c *conn) enqueue(p *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.queue = append(c.queue, p)
	if p.qos == 1 {
		c.qos1++
	}
	return true
}

// unsettled are the QoS 1 messages whose append is under way.
func (c *conn) unsettled() []*pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []*pending
	for _, p := range c.queue {
		if p.qos == 1 && !p.done {
			left = append(left, p)
		}
	}
	return left
}

// underway is the message id of QoS 1 whose append is under way on this
// connection or an earlier one; nil: there is none. Only re-sends (DUP) ask.
func (c *conn) underway(id uint16) *pending {
	c.mu.Lock()
	for _, p := range c.queue {
		if p.id == id && p.qos == 1 && p.raw == nil {
			c.mu.Unlock()
			return p
		}
	}
	c.mu.Unlock()
	return c.session.orphan(id)
}

// wakeLocked starts the flusher if there is something to write and it does not
// run. The flusher ends by itself when nothing is left.
//
// A goroutine for each round, not a fixed pool: a client that does not read
// blocks its own flusher and nobody else's. While it waits to be scheduled, more
// acknowledgements are done and leave in the same write.
func (c *conn) wakeLocked() {
	if c.flushing || len(c.side) == 0 && (len(c.queue) == 0 || !c.queue[0].done) {
		return
	}
	c.flushing = true
	c.server.flushers.Add(1)
	go c.flush()
}

// flush writes what is done, in order, until nothing is.
func (c *conn) flush() {
	defer c.server.flushers.Done()
	out := c.server.writes.take()
	defer func() { c.server.writes.put(out) }()
	for {
		batch, more := c.collect(out[:0])
		out = batch.bytes
		if !more {
			return
		}
		for _, p := range batch.forwards {
			c.server.forward(c, p)
		}
		if len(out) > 0 {
			c.send(out)
		}
		if batch.failure != nil {
			c.end(failureCode(batch.failure))
		}
		if report := c.server.config.Events.Acknowledged; report != nil && batch.acks > 0 {
			report(batch.acks, time.Since(batch.oldest))
		}
	}
}

// batch is what one write carries.
type batch struct {
	bytes    []byte
	acks     int
	oldest   time.Time
	forwards []*packets.Packet
	failure  error
}

// collect takes what is done off the queue. When nothing is, the flusher is over
// and more is false. It goes on for a closed connection: its messages still have
// subscribers.
func (c *conn) collect(out []byte) (b batch, more bool) {
	b.bytes = out
	c.mu.Lock()
	defer c.mu.Unlock()
	b.bytes = append(b.bytes, c.side...)
	c.side = c.side[:0]
	n := 0
	for _, p := range c.queue {
		if !p.done || b.failure != nil {
			break
		}
		n++
		c.addLocked(&b, p)
	}
	if n == 0 && len(b.bytes) == 0 {
		c.flushing = false
		c.cond.Broadcast()
		return b, false
	}
	c.queue = slices.Delete(c.queue, 0, n)
	c.cond.Broadcast()
	return b, true
}

// addLocked encodes what is to be written for p.
func (c *conn) addLocked(b *batch, p *pending) {
	if p.err != nil && p.qos > 0 {
		b.failure = p.err
		return
	}
	if p.forward != nil {
		b.forwards = append(b.forwards, p.forward)
	}
	switch {
	case p.raw != nil:
		b.bytes = append(b.bytes, p.raw...)
		return
	case p.qos == 0:
		return
	case p.qos == 1:
		c.qos1--
		b.bytes = appendAck(b.bytes, packets.Puback, p.id, c.worded(p.answer))
	default:
		b.bytes = appendAck(b.bytes, packets.Pubrec, p.id, c.worded(p.answer))
	}
	if b.acks == 0 {
		b.oldest = p.received
	}
	b.acks++
}

// worded is what the client may be told of a: MQTT 3 knows no reason codes, and
// what was refused is kept as a dead letter, so there it is a success.
func (c *conn) worded(a answer) answer {
	if c.version < 5 {
		return answer{}
	}
	if c.terse || c.largest > 0 && uint32(len(a.text)+16) > c.largest {
		a.text = ""
	}
	return a
}
