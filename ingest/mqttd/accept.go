package mqttd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// registry knows the connections there are. Safe for concurrent use.
type registry struct {
	mu      sync.Mutex
	all     map[*conn]struct{}
	by      map[string]int // connections of an IP address
	turning int            // connections over a limit that wait to be told so
}

// enter counts a connection in. limit names the limit that keeps it out.
func (r *registry) enter(c *conn, l Limits) (limit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	address := host(c)
	switch {
	case len(r.all) >= l.Connections:
		return "connections"
	case r.by[address] >= l.PerAddress:
		return "address"
	}
	r.all[c] = struct{}{}
	r.by[address]++
	return ""
}

func (r *registry) leave(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	address := host(c)
	delete(r.all, c)
	if r.by[address]--; r.by[address] <= 0 {
		delete(r.by, address)
	}
}

func (r *registry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// each calls do with every connection there is now. do must not block.
func (r *registry) each(do func(*conn)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.all {
		do(c)
	}
}

// turn says whether one more connection may wait to be told that it is over a
// limit; turned is called when it has been.
func (r *registry) turn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turning >= maxTurning {
		return false
	}
	r.turning++
	return true
}

func (r *registry) turned() {
	r.mu.Lock()
	r.turning--
	r.mu.Unlock()
}

const (
	maxTurning = 64
	turnTime   = time.Second
)

func host(c *conn) string {
	if tcp, ok := c.net.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return c.net.RemoteAddr().String()
}

// acceptAll takes connections until the listener is closed. Any other error
// passes (EMFILE when files are short): it tries again, later and later.
func (s *Server) acceptAll(ctx context.Context) {
	const least, most = 5 * time.Millisecond, time.Second
	pause := least
	for {
		raw, err := s.listener.Accept()
		switch {
		case err == nil:
			pause = least
			s.enter(newConn(raw, s))
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return
		default:
			s.log.Warn("no connection can be taken", "error", err, "again_in", pause)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, most)
		}
	}
}

// enter starts serving a connection, or turns it away.
func (s *Server) enter(c *conn) {
	limit := s.conns.enter(c, s.limits)
	if limit != "" {
		s.refused(limit)
		s.turnAway(c, limit)
		return
	}
	s.serving.Add(1)
	go s.serve(c)
}

// serve lets mochi handle a connection. A panic in there ends the connection and
// nothing else: mochi's decoders have them.
func (s *Server) serve(c *conn) {
	defer s.serving.Done()
	defer func() {
		c.release()
		s.conns.leave(c)
		if report := s.config.Events.Closed; report != nil && c.opened {
			report()
		}
	}()
	defer func() {
		if defect := recover(); defect != nil {
			s.contain(c, defect)
		}
	}()
	if s.stopping() {
		return
	}
	if err := s.establish(c); err != nil {
		s.log.Debug("connection ended", "client", c.client, "remote", c.RemoteAddr().String(), "error", err)
	}
}

func (s *Server) establish(c *conn) error { return s.mochi.EstablishConnection("mqtt", c) }

func (s *Server) contain(c *conn, defect any) {
	s.log.Error("a packet brought a connection down", "client", c.client, "remote", c.RemoteAddr().String(),
		"panic", fmt.Sprint(defect), "stack", string(debug.Stack()))
	if s.config.Events.Panicked != nil {
		s.config.Events.Panicked()
	}
	s.leaveWill(c, errClosed)
}

// release closes a connection and gives its buffer back.
func (c *conn) release() {
	_ = c.Close()
	c.giveBack(c.buf)
	c.buf, c.pass = nil, nil
}

// interrupt ends a read under way, so that the connection sees that the door stops.
func (c *conn) interrupt() {
	_ = c.net.SetReadDeadline(time.Unix(1, 0))
	c.mu.Lock()
	c.cond.Broadcast()
	c.mu.Unlock()
}

// turnAway tells a client over a limit so, in its own protocol: it reads the
// CONNECT for that. Only so many at once; the others are just closed.
func (s *Server) turnAway(c *conn, limit string) {
	if !s.conns.turn() {
		_ = c.Close()
		return
	}
	s.serving.Add(1)
	go func() {
		defer s.serving.Done()
		defer s.conns.turned()
		defer c.release()
		_ = c.net.SetReadDeadline(time.Now().Add(turnTime))
		for !c.connected {
			if c.advance() != nil {
				return
			}
		}
		most := s.limits.Connections
		if limit == "address" {
			most = s.limits.PerAddress
		}
		c.reject(packets.Code{
			Code:   packets.ErrQuotaExceeded.Code,
			Reason: fmt.Sprintf("the limit of %d connections is reached (%s)", most, limit),
		})
	}()
}
