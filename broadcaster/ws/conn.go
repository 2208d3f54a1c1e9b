package ws

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lxzan/gws"

	"millrace/broadcaster"
)

// conn is the connection as the library sees it: reads come from the socket,
// writes go to the client's outlet. Before there is a client, in the handshake,
// they go to the socket.
type conn struct {
	net.Conn
	client *broadcaster.Client
	socket *gws.Conn
	early  []byte // what the client sent behind its request
	ping   time.Duration
	pinged bool               // the reader's
	why    broadcaster.Reason // the reader's: what the library's close frame said
	said   atomic.Bool        // a close frame was sent
}

// Read reads from the socket and looks after a silent client.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	for {
		if !c.said.Load() { // then the link has set the deadline
			_ = c.SetReadDeadline(time.Now().Add(c.ping))
		}
		n, err := c.Conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.said.Load() {
			c.pinged = false
			return n, err
		}
		// A client that has much to read before our ping answers late; if it
		// reads nothing at all, the outlet's stall ends it.
		if c.pinged && !c.client.Behind() {
			c.client.Close(broadcaster.Silent)
			return 0, err
		}
		c.pinged = true
		c.client.Send(control(ping, nil))
	}
}

// Write takes a whole frame of the library's: a close frame.
func (c *conn) Write(b []byte) (int, error) {
	if c.client == nil {
		return c.Conn.Write(b)
	}
	if len(b) > 0 && b[0]&0xf == closing {
		if c.said.Swap(true) {
			return len(b), nil
		}
		if len(b) >= 4 {
			c.why = broadcaster.Reason(binary.BigEndian.Uint16(b[2:]))
		}
	}
	c.client.Send(append([]byte(nil), b...)) // the library uses b again
	return len(b), nil
}

// Close is called by the library after a close frame, or in a failed handshake.
func (c *conn) Close() error {
	if c.client == nil {
		return c.Conn.Close()
	}
	c.client.Close(c.why)
	return nil
}

// SetDeadline is called by the library around the handshake.
func (c *conn) SetDeadline(t time.Time) error { return c.Conn.SetDeadline(t) }

// bye is the close frame, unless one was sent.
func (c *conn) bye(r broadcaster.Reason) []byte {
	if c.said.Swap(true) {
		return nil
	}
	return bye(r)
}

// read reads until the connection ends, and closes it.
func (c *conn) read() {
	defer func() {
		if recover() != nil {
			// The library trips over lengths of 2^63 and more.
			c.client.Close(broadcaster.Protocol)
		}
		<-c.client.Done() // the outlet closes in bounded time
		_ = c.Conn.Close()
	}()
	c.socket.ReadLoop()
	c.client.Close(broadcaster.Broken) // if nobody said goodbye
}

func (c *conn) complain(id string, err error) {
	c.client.Send(form{}.Event(nil, id, &broadcaster.Event{Name: broadcaster.EventError, Err: err}))
}

// events are what the library tells.
type events struct{ gws.BuiltinEventHandler }

// OnPing answers: the library does not.
func (events) OnPing(s *gws.Conn, payload []byte) {
	s.NetConn().(*conn).client.Send(control(pong, payload))
}

// OnMessage carries out an operation. An error is an answer, not an end.
func (events) OnMessage(s *gws.Conn, m *gws.Message) {
	defer m.Close()
	c := s.NetConn().(*conn)
	if m.Opcode != gws.OpcodeText {
		c.client.Close(broadcaster.NotText)
		return
	}
	q, err := parse(m.Bytes())
	if err == nil {
		err = do(c.client, q)
	}
	if err != nil {
		c.complain(q.id, err)
	}
}

// link is the connection as the hub writes to it.
type link struct{ net.Conn }

// lastWords is how long a client has to answer our close frame.
const lastWords = time.Second

// Close ends what we write. The reader closes the connection when the client
// has answered, or after a second: closing at once would make the system throw
// away the close frame if unread bytes lie here (RFC 6455 section 7.1.1).
func (l link) Close() error {
	_ = l.SetReadDeadline(time.Now().Add(lastWords))
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return l.Conn.Close()
}

// SyscallConn lets the hub write without waiting, where this is a plain socket.
func (l link) SyscallConn() (syscall.RawConn, error) {
	if plain, ok := l.Conn.(*net.TCPConn); ok {
		return plain.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
