package broadcaster

import (
	"context"
	"errors"
	"slices"
	"time"

	"millrace/telemetry"
)

// runner drives one subscription to where it is live: through the past, the
// log, and the ring. It writes at the client's own pace.
//
// Whether a client that is too slow is skipped or read for from the log is
// decided in lost: one that has been live, and whose place has left the ring,
// is skipped, because a screen wants the present; one that is on its way there
// (resumed, playing, seeking) has asked for what it has not seen, and gets it.
type runner struct {
	h   *Hub
	s   *subscription
	out *outlet

	at     telemetry.Cursor // behind all that is in post; s.at follows when it is sent
	seq    uint64           // the place in the ring
	inRing bool             // seq counts
	post   post
}

// travel returns why the journey is over: errArrived, if all went well.
func (r *runner) travel(ctx context.Context) error {
	if err := r.set(ctx); err != nil {
		return err
	}
	for {
		if err := r.leg(ctx); err != nil {
			return err
		}
	}
}

func (r *runner) leg(ctx context.Context) error {
	switch {
	case r.at.InPast():
		return r.replay(ctx)
	case Placed(r.s.query.Until):
		return r.excerpt(ctx)
	case r.inRing || r.locate():
		return r.follow(ctx)
	default:
		return r.catchUp(ctx)
	}
}

func (r *runner) locate() bool {
	r.seq, r.inRing = r.h.ring.locate(r.at)
	return r.inRing
}

// set finds out where to begin and sends the snapshot if one is wanted: the
// cursor on its last message is where the subscription goes on.
func (r *runner) set(ctx context.Context) error {
	s := r.s
	if Placed(r.at) && !s.snapshot {
		return nil
	}
	r.h.mu.Lock()
	if !Placed(r.at) {
		r.at = r.h.vec.Clone()
	}
	var readings [][]byte
	if s.snapshot {
		readings = r.h.latest.matching(&s.query, 0)
	}
	r.h.mu.Unlock()
	if s.snapshot {
		e := Event{Name: EventSnapshot, Readings: readings, Cursor: r.at.Clone()}
		if err := r.out.send(ctx, s.client.form.Event(nil, s.id, &e)); err != nil {
			return err
		}
	}
	s.at, s.snapshot = r.at.Clone(), false
	return nil
}

// follow goes through the ring to the place where the rounds stand.
func (r *runner) follow(ctx context.Context) error {
	if r.s.group == nil {
		r.h.mu.Lock()
		r.s.group = r.h.acquire(r.s)
		r.h.mu.Unlock()
	}
	for r.inRing {
		if err := r.out.wait(ctx); err != nil {
			return err
		}
		err := r.advance(ctx)
		if errors.Is(err, errLost) {
			err = r.lost(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// advance makes one step through the ring, or the last one.
func (r *runner) advance(ctx context.Context) error {
	reached := r.h.reached.Load()
	playing := r.s.query.Speed > 0 && reached > r.seq
	if reached > r.seq+stride || playing {
		return r.step(ctx, min((r.seq/stride+1)*stride, reached))
	}
	wait, err := r.finish(ctx)
	if err != nil {
		return err
	}
	return wait.until(ctx)
}

// step sends the ring's next piece, which ends before to.
func (r *runner) step(ctx context.Context, to uint64) error {
	if r.private() {
		if err := r.sift(ctx, to); err != nil {
			return err
		}
		return r.deliver(ctx)
	}
	f := r.h.chunks.frame(r.h.ring, r.s.group, r.seq, to)
	if f == nil {
		return errLost
	}
	if f.matched > 0 {
		if err := r.out.send(ctx, f.bytes); err != nil {
			return err
		}
	}
	r.took(f)
	return nil
}

// private says whether the subscription needs bytes of its own: it throttles,
// plays, or its cursor does not lie on the order in which this hub merged the
// partitions.
func (r *runner) private() bool {
	if r.s.query.Every > 0 || r.s.query.Speed > 0 || !r.post.empty() {
		return true
	}
	return !r.h.ring.isAt(r.seq, r.at)
}

// took moves the subscription behind a frame that was sent.
func (r *runner) took(f *frame) {
	r.seq, r.at, r.s.at = f.to, f.after.Clone(), f.after
	r.s.base += uint64(f.matched)
}

// sift takes the ring's readings up to a place into the post, without those
// that the cursor has seen.
func (r *runner) sift(ctx context.Context, to uint64) error {
	entries, _, after, ok := r.h.ring.read(nil, r.seq, to)
	if !ok {
		return errLost
	}
	r.at = merge(r.at, telemetry.Cursor{Log: r.at.Log, Next: make([]int64, len(after.Next))})
	for i := range entries {
		if r.at.Seen(entries[i].Position) {
			continue
		}
		if err := r.put(ctx, entries[i].json, entries[i].Position); err != nil {
			return err
		}
	}
	r.at, r.seq = merge(r.at, after), to
	return nil
}

// put takes one reading of ring or log into the post if it is wanted, and moves
// the cursor behind it.
func (r *runner) put(ctx context.Context, json []byte, p telemetry.Position) error {
	q := &r.s.query
	item := Item{JSON: json, Position: p}
	if !q.verbatim() || q.Every > 0 || q.Speed > 0 {
		reading := &r.post.scratch
		if telemetry.ParseReading(json, reading) != nil || !q.wants(reading) {
			r.at.Advance(p)
			return nil
		}
		if len(q.Filter.Metrics) > 0 {
			item.JSON = reading.AppendJSON(nil)
		}
		if err := r.pace(ctx, reading.Time); err != nil {
			return err
		}
	}
	r.take(item)
	r.at.Advance(p)
	return nil
}

// take puts an item into the post.
func (r *runner) take(item Item) {
	if len(r.post.items) == 0 {
		r.post.from = r.at.Clone()
	}
	device := ""
	if r.s.query.Every > 0 {
		device = r.post.scratch.Device
	}
	r.post.add(item, device)
	r.post.taken++
	r.s.base++
}

// pace waits until a reading of time t is to be played; what is in hand goes first.
func (r *runner) pace(ctx context.Context, t time.Time) error {
	if r.s.query.Speed == 0 {
		return nil
	}
	wait := r.post.due(t, r.s.query.Speed, time.Now())
	if wait <= 0 {
		return nil
	}
	if err := r.deliver(ctx); err != nil {
		return err
	}
	sleep(ctx, wait)
	return ctx.Err()
}

// deliver sends what is in hand, unless Query.Every says later.
func (r *runner) deliver(ctx context.Context) error {
	p, s := &r.post, r.s
	if r.held() {
		return ctx.Err()
	}
	if len(p.unsent) == 0 {
		p.encode(s.client.form, s.id, r.at)
	}
	if len(p.unsent) == 0 {
		s.at = r.at.Clone()
		return ctx.Err()
	}
	if err := r.out.send(ctx, p.unsent); err != nil {
		return err
	}
	s.at = p.unsentAt
	p.gone(time.Now())
	return nil
}

// held says whether Query.Every lets nothing be sent yet.
func (r *runner) held() bool {
	p, every := &r.post, r.s.query.Every
	return every > 0 && time.Since(p.sent) < every && len(p.unsent) == 0
}

// settle sends all that is in hand, when Query.Every allows.
func (r *runner) settle(ctx context.Context) error {
	for {
		if err := r.deliver(ctx); err != nil || r.post.empty() {
			return err
		}
		sleep(ctx, time.Until(r.post.sent.Add(r.s.query.Every)))
	}
}

// pause is what comes between two attempts to arrive: the next round, or a time.
type pause struct {
	moved chan struct{}
	due   time.Time
}

func (p pause) until(ctx context.Context) error {
	switch {
	case p.moved != nil:
		select {
		case <-p.moved:
		case <-ctx.Done():
		}
	case !p.due.IsZero():
		sleep(ctx, time.Until(p.due))
	}
	return ctx.Err()
}

// finish makes the last step between two rounds, and with it the subscription
// live: errArrived. What it cannot do now, it tells when to try again.
func (r *runner) finish(ctx context.Context) (pause, error) {
	h := r.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pos > r.seq+stride || r.s.query.Speed > 0 && h.pos > r.seq {
		return pause{}, nil // rounds went by
	}
	if !r.private() {
		return pause{}, r.finishShared()
	}
	if err := r.sift(ctx, h.pos); err != nil {
		return pause{}, err
	}
	if !covers(h.vec, r.at) {
		// Another instance has read further than this one.
		if h.moved == nil {
			h.moved = make(chan struct{})
		}
		return pause{moved: h.moved}, nil
	}
	if due := r.post.sent.Add(r.s.query.Every); !r.post.empty() && time.Now().Before(due) {
		return pause{due: due}, nil
	}
	r.post.encode(r.s.client.form, r.s.id, h.vec)
	return pause{}, r.arrive(r.post.unsent)
}

func (r *runner) finishShared() error {
	if r.h.pos == r.seq {
		return r.arrive(nil)
	}
	f := r.h.chunks.frame(r.h.ring, r.s.group, r.seq, r.h.pos)
	if f == nil {
		return errLost
	}
	return r.arrive(f.bytes)
}

// arrive offers the last bytes and joins, if the client is ready to take them.
// h.mu is held, and behind those bytes the subscription stands at h.pos.
func (r *runner) arrive(b []byte) error {
	h, s, now := r.h, r.s, time.Now()
	ended := !s.query.To.IsZero() && !now.Before(s.query.To)
	if !s.announced && !ended {
		b = append(slices.Clip(b), s.liveEvent(h.vec)...)
	}
	if len(b) > 0 && !r.out.offer(b, now.UnixNano()) {
		return nil // another subscription of this client was faster; again
	}
	s.at = h.vec
	if ended {
		return errEnded
	}
	s.announced, s.run = true, nil
	h.join(s)
	return errArrived
}

// lost is what happens when the place has left the ring.
func (r *runner) lost(ctx context.Context) error {
	r.s.base -= r.post.taken
	r.post.drop()
	r.at = r.s.at.Clone()
	if !r.s.late {
		r.inRing = false
		return nil
	}
	return r.skip(ctx)
}

// skip takes a client that was live and too slow to the present: how many
// readings it was not sent, and the latest values of the devices that have
// spoken since. The first message's cursor is where the hole begins, the
// last one's where it ends: the log has it.
func (r *runner) skip(ctx context.Context) error {
	h, s := r.h, r.s
	h.mu.Lock()
	count := s.group.matched - s.base
	readings := h.latest.matching(&s.query, r.seq)
	r.seq, r.at, s.base = h.pos, h.vec.Clone(), s.group.matched
	h.mu.Unlock()
	h.events.skipped(count)
	form := s.client.form
	b := form.Event(nil, s.id, &Event{Name: EventSkipped, Cursor: s.at, Count: count})
	b = form.Event(b, s.id, &Event{Name: EventSnapshot, Cursor: r.at.Clone(), Readings: readings})
	if err := r.out.send(ctx, b); err != nil {
		return err
	}
	s.at = r.at.Clone()
	return nil
}
