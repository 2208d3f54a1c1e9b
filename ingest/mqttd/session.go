package mqttd

import (
	"fmt"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// session is what MQTT remembers of a client id between connections, as far as
// telemetry goes; subscriptions and forwarded messages are mochi's.
type session struct {
	device string // of the login: nobody else may take the session over
	brief  bool   // a clean one of MQTT 3: it ends with its connection

	mu   sync.Mutex // guards the rest
	conn *conn      // the connection that has it, or had it last
	// released maps the packet ids of QoS 2 messages that wait for their PUBREL.
	// An append under way is the value; nil: appended, PUBREC may be sent.
	released map[uint16]*pending
	// orphans are QoS 1 appends under way whose connection is gone: the client
	// will send them again on the next one, and they shall not be appended twice.
	orphans []*pending
	will    *time.Timer // of a delayed will; nil: none
}

// sessions are those of all clients. Safe for concurrent use.
type sessions struct {
	most int
	mu   sync.Mutex
	of   map[string]*session // mu
}

// open gives the connection its session: the one there is, or a new one if clean
// is asked for. The connection that had it is closed. limit is not "" if there is
// none to be had: there are too many, or, with logins, it belongs to another device.
func (s *sessions) open(c *conn, clean bool) (limit string, why packets.Code) {
	s.mu.Lock()
	old := s.of[c.client]
	if old != nil && old.device != c.principal.Device && !c.principal.Open {
		s.mu.Unlock()
		return "auth", packets.Code{
			Code:   packets.ErrClientIdentifierNotValid.Code,
			Reason: "another device has this client id; use one of your own",
		}
	}
	if old == nil && len(s.of) >= s.most {
		s.mu.Unlock()
		return "sessions", packets.Code{
			Code:   packets.ErrQuotaExceeded.Code,
			Reason: fmt.Sprintf("the limit of %d sessions is reached", s.most),
		}
	}
	brief := clean && c.version < 5
	if old == nil || clean || old.brief {
		s.of[c.client] = &session{device: c.principal.Device, brief: brief, conn: c}
	}
	c.session = s.of[c.client]
	s.mu.Unlock()
	if old != nil {
		old.leave()
	}
	if old == c.session {
		c.session.resume(c)
	}
	return "", packets.Code{}
}

// leave closes the connection that has the session: another one takes over
// [MQTT-3.1.4-3].
func (s *session) leave() {
	s.stopWill()
	s.holder().end(packets.ErrSessionTakenOver)
}

// close ends the session if c still has it.
func (s *sessions) close(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.of[c.client]; now != nil && now == c.session && now.holder() == c {
		delete(s.of, c.client)
	}
}

// held are the connections that have, or had last, the sessions of a device.
func (s *sessions) held(device string) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var held []*conn
	for _, one := range s.of {
		if one.device == device {
			held = append(held, one.holder())
		}
	}
	return held
}

// holder is the connection that has the session, or had it last.
func (s *session) holder() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// resume gives the session to c, with the appends under way of the connection
// that had it. That one is closed: nothing enters its queue any more.
func (s *session) resume(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.will != nil { // set while c was taking over: the client is back in time
		s.will.Stop()
		s.will = nil
	}
	left := s.conn.unsettled()
	for _, p := range s.orphans {
		if !p.settled() {
			left = append(left, p)
		}
	}
	s.conn, s.orphans = c, left
}

// receive notes a QoS 2 message. known: a message with this id came before and
// was not released, so this one is the same (MQTT 5 section 4.3.3) and is not
// appended again; first is the append under way, nil if it is over.
func (s *session) receive(id uint16, p *pending) (first *pending, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, known = s.released[id]; known {
		return first, true
	}
	if s.released == nil {
		s.released = make(map[uint16]*pending)
	}
	s.released[id] = p
	return nil, false
}

// settle notes what became of a QoS 2 message: kept ones wait for their PUBREL,
// others are as if they never came.
func (s *session) settle(p *pending, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released[p.id] != p {
		return
	}
	if kept {
		s.released[p.id] = nil
	} else {
		delete(s.released, p.id)
	}
}

// release ends a QoS 2 message. known: there was one; early: its append is not
// over, so the client cannot have seen a PUBREC.
func (s *session) release(id uint16) (known, early bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, known := s.released[id]
	if known && p == nil {
		delete(s.released, id)
	}
	return known, p != nil
}

// unreleased is the number of QoS 2 messages between PUBLISH and PUBREL.
func (s *session) unreleased() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.released)
}

// orphan is the append under way of the QoS 1 message id from an earlier
// connection; nil: there is none.
func (s *session) orphan(id uint16) *pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.orphans {
		if p.id == id && !p.settled() {
			return p
		}
	}
	return nil
}

func (s *session) stopWill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.will != nil {
		s.will.Stop()
		s.will = nil
	}
}

// stopWills forgets the delayed wills.
func (s *sessions) stopWills() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.of {
		one.stopWill()
	}
}
