package mqttd

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"millrace/devices"
	"millrace/ingest"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Reasons for which reading ends without a fault of the client's.
var (
	errStopping = errors.New("the MQTT door is stopping")
	errClosed   = fmt.Errorf("mqttd: %w", net.ErrClosed)
)

// conn stands between a socket and mochi, as the net.Conn mochi reads from and
// writes to. Read takes the stream apart into packets, checks them, keeps what
// is telemetry for the gate and hands mochi the others, one whole packet at a
// time. Write puts mochi's packets among our acknowledgements.
//
//	socket ─▶ Read ─▶ frame ─▶ screen ─┬─ telemetry ─▶ Gate ─▶ queue ─▶ flush ─▶ socket
//	                                   └─ the rest ──▶ mochi ─▶ Write ─────────▶ socket
//
// Reading is one goroutine (mochi's for this client); fields without another
// word are its own.
type conn struct {
	net    net.Conn
	server *Server

	// What CONNECT said; set before the first packet behind it is read.
	client    string
	version   byte
	principal devices.Principal
	keepalive time.Duration
	largest   uint32 // bytes of a packet the client takes; 0: any
	terse     bool   // the client wants no reason strings
	session   *session
	will      *will // of a telemetry topic; nil: none, or mochi's
	last      error // why reading ended

	small     [smallBuffer]byte
	buf       []byte // small, or a larger one while there is much to read
	r, w      int    // what of buf is read but not taken yet
	lastRead  int    // bytes of the last read from the socket
	readAt    time.Time
	deadline  time.Time // up to when the socket's deadline need not be moved
	pass      []byte    // of the packet that mochi is taking in, what it has not read
	connected bool      // CONNECT was passed on
	opened    bool      // and answered with success
	aliases   map[uint16]string
	topic     string // of the message before, with its route
	route     ingest.Route
	ours      bool // topic is telemetry
	wanted    bool // topic has subscribers
	wantedAt  uint64
	publisher lender // mochi's client under whose name messages are forwarded

	mu       sync.Mutex
	cond     *sync.Cond // mu: room in queue, or the flusher has ended
	queue    []*pending // mu: in order of receipt
	qos1     int        // mu: of queue, those of QoS 1 that are ours
	side     []byte     // mu: packets that go out without waiting for the queue
	flushing bool       // mu: the flusher runs
	closed   bool       // mu

	wmu        sync.Mutex // held for the writing of whole packets
	muted      bool       // wmu: the last packet of this connection was written
	writeUntil time.Time  // wmu: the socket's write deadline
}

const smallBuffer = 384

func newConn(c net.Conn, s *Server) *conn {
	now := time.Now()
	n := &conn{net: c, server: s, readAt: now, version: 4}
	n.cond = sync.NewCond(&n.mu)
	n.buf = n.small[:]
	_ = c.SetReadDeadline(now.Add(s.limits.Login))
	return n
}

// Read gives mochi the next bytes of a packet that is for it. It never gives
// bytes of two packets at once: so when it is called for a new packet, mochi is
// done with the one before.
func (c *conn) Read(p []byte) (int, error) {
	for len(c.pass) == 0 {
		if err := c.advance(); err != nil {
			c.last = err
			return 0, err
		}
	}
	n := copy(p, c.pass)
	c.pass = c.pass[n:]
	return n, nil
}

// advance takes one packet out of the buffer, or reads more into it.
func (c *conn) advance() error {
	if c.server.stopping() {
		return c.drain()
	}
	size, err := c.frame()
	if err != nil {
		return err
	}
	if size == 0 {
		return c.fill()
	}
	packet := c.buf[c.r : c.r+size]
	c.r += size
	pass, err := c.screen(packet)
	if pass {
		c.pass = packet
	}
	return err
}

// frame is the size of the next whole packet in the buffer, 0 if it is not there yet.
func (c *conn) frame() (int, error) {
	b := c.buf[c.r:c.w]
	if len(b) > 0 && !c.connected && b[0] != packets.Connect<<4 {
		return 0, c.violation("the first packet must be CONNECT") // [MQTT-3.1.0-1]; do not wait for its end
	}
	if len(b) < 2 {
		return 0, nil
	}
	n, head := varint(b[1:])
	if head < 0 {
		return 0, c.refuse("protocol", packets.ErrMalformedVariableByteInteger)
	}
	limit := c.server.limits.PacketBytes
	if !c.connected {
		limit = c.server.limits.LoginBytes
	}
	size := 1 + head + n
	if head > 0 && size > limit {
		return 0, c.refuse("packet", packets.Code{
			Code:   packets.ErrPacketTooLarge.Code,
			Reason: fmt.Sprintf("a packet of %d bytes is larger than %d", size, limit),
		})
	}
	if head == 0 || len(b) < size {
		return 0, nil
	}
	return size, nil
}

// fill reads from the socket. The buffer grows with what has arrived, never with
// what a packet announces.
func (c *conn) fill() error {
	c.makeRoom()
	now := time.Now()
	if c.connected && c.keepalive > 0 && now.After(c.deadline) {
		// Moved in steps of an eighth: a deadline a read is a third of its cost.
		c.deadline = now.Add(c.keepalive / 8)
		_ = c.net.SetReadDeadline(now.Add(c.keepalive*3/2 + c.keepalive/8)) // [MQTT-3.1.2-22]
	}
	// Behind the deadline: stop sets stopping, then a deadline that has passed.
	if c.server.stopping() {
		return nil
	}
	n, err := c.net.Read(c.buf[c.w:])
	c.w, c.lastRead, c.readAt = c.w+n, n, now
	if n > 0 {
		return nil
	}
	if c.server.stopping() {
		return nil // advance drains
	}
	return c.silence(err)
}

// silence names why nothing came: a deadline that passed is the client's fault.
func (c *conn) silence(err error) error {
	if !isTimeout(err) {
		return err
	}
	if !c.connected {
		return c.refuse("login", packets.Code{Code: packets.ErrMaxConnectTime.Code, Reason: "no CONNECT came in time"})
	}
	return c.refuse("keepalive", packets.ErrKeepAliveTimeout)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// makeRoom sees to free space in the buffer: an idle connection keeps its small
// one, a busy one borrows a large one, and a packet larger than that grows it.
func (c *conn) makeRoom() {
	if c.r == c.w {
		c.r, c.w = 0, 0
		busy := c.lastRead > smallBuffer/2
		if small := len(c.buf) == smallBuffer; small == busy || len(c.buf) > largeBuffer {
			c.swap(busy)
		}
		return
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w < len(c.buf) {
		return
	}
	old := c.buf[:c.w]
	if len(old) == smallBuffer {
		c.buf = c.server.reads.take()[:largeBuffer]
	} else {
		c.buf = make([]byte, 2*len(old))
	}
	copy(c.buf, old)
	c.giveBack(old)
}

// swap changes an empty buffer.
func (c *conn) swap(busy bool) {
	old := c.buf
	c.buf = c.small[:]
	if busy {
		c.buf = c.server.reads.take()[:largeBuffer]
	}
	c.giveBack(old)
}

func (c *conn) giveBack(b []byte) {
	if cap(b) == largeBuffer {
		c.server.reads.put(b)
	}
}

// drain waits until everything that was read is acknowledged, and ends reading.
func (c *conn) drain() error {
	c.mu.Lock()
	for (len(c.queue) > 0 || c.flushing) && !c.closed {
		c.cond.Wait()
	}
	c.mu.Unlock()
	if c.opened {
		c.end(packets.ErrServerShuttingDown)
	}
	return errStopping
}

// refuse tells the client why this ends, if its protocol can say so, and answers
// the error that ends reading. limit is the word for Events.
func (c *conn) refuse(limit string, why packets.Code) error {
	c.server.refused(limit)
	switch {
	case c.opened:
		c.end(why)
	case c.version == 5:
		c.reject(why)
	default:
		c.Close()
	}
	return fmt.Errorf("mqttd: client %q: %w", c.client, why)
}
