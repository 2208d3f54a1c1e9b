package simulator

import (
	"bufio"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// bufferedConn makes of paho's many small reads (three a packet) and writes (one
// a packet) few large ones: a writer of its own takes along whatever has come
// while the last write was under way, so that nothing waits for company.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
	over   chan struct{} // closed when the writer has ended

	mu     sync.Mutex
	change sync.Cond // on mu: out, err or closed changed
	out    []byte    // guarded by mu: not yet written
	err    error     // guarded by mu: of the last write
	closed bool      // guarded by mu
}

// maxOut is how many bytes may wait; a writer beyond that waits itself.
const maxOut = 64 << 10

// openBuffered is paho's way to open a plain connection, buffered.
func openBuffered(address *url.URL, options mqtt.ClientOptions) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address.Host, options.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	b := &bufferedConn{Conn: conn, reader: bufio.NewReaderSize(conn, 16<<10), over: make(chan struct{})}
	b.change.L = &b.mu
	go b.flush() // Close stops it
	return b, nil
}

func (b *bufferedConn) Read(p []byte) (int, error) { return b.reader.Read(p) }

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.out) > maxOut && b.err == nil && !b.closed {
		b.change.Wait()
	}
	if b.err != nil {
		return 0, b.err
	}
	if b.closed {
		return 0, net.ErrClosed
	}
	b.out = append(b.out, p...)
	b.change.Broadcast()
	return len(p), nil
}

func (b *bufferedConn) flush() {
	defer close(b.over)
	var spare []byte
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil {
		for len(b.out) == 0 && !b.closed {
			b.change.Wait()
		}
		if len(b.out) == 0 {
			return
		}
		out := b.out
		b.out = spare[:0]
		b.change.Broadcast()
		b.mu.Unlock()
		_ = b.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // a closed connection says so in Write
		_, err := b.Conn.Write(out)
		b.mu.Lock()
		spare, b.err = out, err
	}
	b.change.Broadcast()
	_ = b.Conn.Close() // so that the reader learns of it
}

// SetWriteDeadline is paho's around each of its writes, which only fill the
// buffer here; the real writes have a deadline of their own.
func (b *bufferedConn) SetWriteDeadline(time.Time) error { return nil }

// Close writes what there is, for a few seconds at most, and closes.
func (b *bufferedConn) Close() error {
	b.mu.Lock()
	b.closed = true
	b.change.Broadcast()
	b.mu.Unlock()
	<-b.over
	return b.Conn.Close()
}
