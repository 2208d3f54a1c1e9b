package broadcaster

import (
	"context"
	"sync"
	"time"

	"millrace/telemetry"
)

// The tick: a round comes at once if the last one began longer than shortTick
// ago; else after a pause that grows with what the last round cost.
const (
	shortTick = 10 * time.Millisecond
	longTick  = 100 * time.Millisecond
	// costTicks is how many times its cost a round is apart from the next: so
	// rounds take at most a quarter of the time until longTick is reached.
	costTicks = 4
	// housekeeping is how often flushes, heartbeats and ends are looked after
	// when nothing else happens.
	housekeeping = time.Second
)

// pump makes rounds until ctx ends.
func (h *Hub) pump(ctx context.Context) {
	alarm := time.NewTimer(housekeeping)
	defer alarm.Stop()
	for {
		select {
		case <-h.ring.wake:
		case <-alarm.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		flush := h.round(began)
		cost := time.Since(began)
		pause := min(max(costTicks*cost, shortTick), longTick) - cost
		if pause > 0 && !sleep(ctx, pause) {
			return
		}
		alarm.Reset(min(housekeeping, max(0, flush-time.Since(began))))
	}
}

// sleep waits and answers whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// round shows what has been appended since the last one to all live
// subscriptions. No client can make it wait. It answers in which time the next
// flush of a group is due.
func (h *Hub) round(now time.Time) (flush time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var s span
	h.parsed, h.entries, s = h.ring.take(h.parsed, h.entries)
	if len(s.after.Next) < len(h.vec.Next) {
		return housekeeping // the log is being begun anew
	}
	for i := range h.parsed {
		if !h.latest.update(&h.parsed[i], s.from+uint64(i)) {
			h.events.refused("Devices")
		}
	}
	h.jobs = h.jobs[:0]
	flush = housekeeping
	for _, g := range h.groups {
		h.advance(g, s, now)
		if len(g.pending) > 0 {
			flush = min(flush, g.due.Sub(now))
		}
	}
	if s.to != h.pos {
		h.arrive(s)
	} else {
		h.vec = s.after // past what is no reading
	}
	h.checkReady()
	h.deliver(now)
	if n := len(h.entries); n > 0 {
		h.events.round(n, len(h.jobs), time.Since(now))
	}
	h.end(now)
	h.beat(now)
	return flush
}

// arrive moves the place where live subscriptions stand.
func (h *Hub) arrive(s span) {
	h.pos, h.vec = s.to, s.after
	h.reached.Store(s.to)
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}

// fewJobs are done without waking the second writer.
const fewJobs = 64

// deliver offers the jobs' frames, half of them from a second goroutine: the
// write calls are most of what a round costs.
func (h *Hub) deliver(now time.Time) {
	jobs, at := h.jobs, now.UnixNano()
	var refused, refusedToo []job
	if len(jobs) <= fewJobs {
		refused = offerAll(jobs, at)
	} else {
		var other sync.WaitGroup
		half := len(jobs) / 2
		other.Go(func() { refusedToo = offerAll(jobs[half:], at) })
		refused = offerAll(jobs[:half], at)
		other.Wait()
	}
	for _, part := range [][]job{refused, refusedToo} {
		for _, j := range part {
			h.lag(j)
		}
	}
	clear(jobs)
}

func offerAll(jobs []job, now int64) (refused []job) {
	for _, j := range jobs {
		if !j.s.client.out.offer(j.f.bytes, now) {
			refused = append(refused, j)
			continue
		}
		j.s.told = now
	}
	return refused
}

// end sends live subscriptions whose end has come on their last way.
func (h *Hub) end(now time.Time) {
	for _, g := range h.groups {
		if g.query.To.IsZero() || now.Before(g.query.To) {
			continue
		}
		for len(g.members) > 0 {
			s := g.members[0]
			h.leave(s)
			h.start(s)
		}
	}
}

// beat gives live subscriptions that were told nothing for a while a sign of
// life with their cursor: one whose filter matches rarely must not have a cursor
// that is gone when the client needs it, however busy its neighbours on the same
// connection are. A client without live subscriptions gets a bare one.
func (h *Hub) beat(now time.Time) {
	if now.Sub(h.beaten) < housekeeping {
		return
	}
	h.beaten = now
	since := now.Add(-h.limits.Heartbeat).UnixNano()
	for c := range h.clients {
		if len(c.live) == 0 && c.out != nil && c.out.quiet(since, now.UnixNano()) {
			c.out.offer(c.form.Event(nil, "", &Event{Name: EventBeat}), now.UnixNano())
		}
		for _, s := range c.live {
			if s.told <= since {
				s.beat(h.vec, now.UnixNano())
			}
		}
	}
}

// beat is tried again in the next second if the client is not ready.
func (s *subscription) beat(at telemetry.Cursor, now int64) {
	e := Event{Name: EventBeat}
	if len(s.group.pending) == 0 {
		e.Cursor = at
	}
	if s.client.out.offer(s.client.form.Event(nil, s.id, &e), now) {
		s.told = now
	}
}
