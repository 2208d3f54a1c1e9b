package broadcaster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/telemetry"
)

// subscription is one wish of one client. It is live, or a runner drives it, or
// it is paused. Protected by Hub.mu, but while a runner drives it, group, seq,
// base, at, snapshot and announced are the runner's.
type subscription struct {
	client *Client
	id     string
	query  Query
	group  *group // while live, or held by the runner

	live     bool
	slot     int              // in group.members
	joined   uint64           // where it became live
	joinedAt telemetry.Cursor // there
	told     int64            // UnixNano of when the client was last sent something of it

	at        telemetry.Cursor // behind all that was sent, while not live; zero: begin now
	late      bool             // it was live and lags: what leaves the ring is skipped
	seq       uint64           // when late: the place of at in the ring
	base      uint64           // the group's matched count: when live, at joined; when late, at seq
	snapshot  bool             // latest values are to be sent first
	announced bool             // the event live was sent
	over      bool             // it has ended
	paused    bool             // the client's wish

	run *run // nil: no runner
}

// run is a runner's life.
type run struct {
	cancel context.CancelFunc
	done   chan struct{}
}

var (
	// errArrived ends a journey: the subscription is live.
	errArrived = errors.New("live")
	// errEnded ends a subscription whose end was reached.
	errEnded = errors.New("the subscription has ended")
	// errLost: the place has left the ring.
	errLost = errors.New("the place has left the ring")
)

// start gives a subscription a runner, which drives it until it is live. h.mu
// is held. The runner ends when it has arrived, is halted, or h.ctx ends.
func (h *Hub) start(s *subscription) {
	ctx, cancel := context.WithCancel(h.ctx)
	own := &run{cancel, make(chan struct{})}
	s.run = own
	r := &runner{h: h, s: s, at: s.at.Clone(), out: s.client.out}
	if s.late {
		r.seq, r.inRing, r.post.sent = s.seq, true, time.Now()
	}
	h.runners.Go(func() {
		defer cancel()
		err := r.travel(ctx)
		if errors.Is(err, errArrived) {
			close(own.done)
			return // s belongs to the rounds now
		}
		h.mu.Lock()
		if s.group != nil {
			h.release(s.group)
		}
		s.group, s.run, s.late = nil, nil, false
		s.over = !errors.Is(err, errLeft) && !errors.Is(err, context.Canceled)
		ended := s.over
		h.mu.Unlock()
		close(own.done)
		if ended {
			s.client.ended(s, err)
		}
	})
}

// halt takes a subscription out of whatever it is in; s.at then tells where it
// stands. It may wait for a round, never for the client.
func (h *Hub) halt(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s.run != nil {
		own := s.run
		own.cancel()
		h.mu.Unlock()
		<-own.done
		h.mu.Lock()
	}
	if s.live {
		h.leave(s)
	}
}

// enter sets a new or changed subscription going. Where nothing lies between it
// and the present, it is live at once, without a runner.
func (h *Hub) enter(s *subscription) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("broadcaster: the hub is %w", telemetry.ErrClosed)
	}
	if !Placed(s.at) && !s.snapshot && s.client.out.offer(s.liveEvent(h.vec), time.Now().UnixNano()) {
		s.announced = true
		s.group = h.acquire(s)
		h.join(s)
		return nil
	}
	h.start(s)
	return nil
}

// goOn is enter for what may be paused.
func (h *Hub) goOn(s *subscription) error {
	if s.paused {
		return nil
	}
	return h.enter(s)
}

func (s *subscription) liveEvent(at telemetry.Cursor) []byte {
	return s.client.form.Event(nil, s.id, &Event{Name: EventLive, Cursor: at})
}
