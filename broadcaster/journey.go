package broadcaster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"millrace/telemetry"
)

// catchUp reads the log from the subscription's cursor to where the rounds
// stood when it began. After that the ring has the rest, or it begins again.
func (r *runner) catchUp(ctx context.Context) error {
	r.h.mu.Lock()
	to := r.h.vec
	r.h.mu.Unlock()
	if err := r.readLog(ctx, to); err != nil && !errors.Is(err, errPage) {
		return err
	}
	return r.deliver(ctx)
}

// excerpt reads a piece of the log and ends.
func (r *runner) excerpt(ctx context.Context) error {
	err := r.readLog(ctx, r.s.query.Until)
	switch {
	case errors.Is(err, errPage):
		return r.deliver(ctx) // the next leg goes on
	case err != nil:
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	return errEnded
}

// readLog takes in hand, and sends, what the log has up to a cursor. What is
// gone is told as a gap. errPage: the client is slow; what is in hand is to be
// delivered now, without a place among the readers, before r.at is read on from.
func (r *runner) readLog(ctx context.Context, to telemetry.Cursor) error {
	release, err := r.admit(ctx)
	if err != nil {
		return err
	}
	release = sync.OnceFunc(release)
	defer release()
	first, next, err := r.h.log.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("broadcaster: bounds of the log: %w", err)
	}
	if err := gone(r.at, first, next); err != nil {
		release() // the client decides how long it takes
		return r.gap(ctx, first, next)
	}
	r.at = merge(r.at, telemetry.Cursor{Log: to.Log, Next: make([]int64, len(to.Next))})
	err = r.h.log.Follow(ctx, r.at.Clone(), to, func(records []telemetry.Record) error {
		return r.handle(ctx, records, to)
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, telemetry.ErrGone):
		return nil // the bounds will tell on the next leg
	case errors.Is(err, errLeft), errors.Is(err, errPage):
		return err
	case err != nil:
		return fmt.Errorf("broadcaster: read the log: %w", err)
	}
	r.at = merge(r.at, to)
	return nil
}

// handle takes lent records in hand.
func (r *runner) handle(ctx context.Context, records []telemetry.Record, to telemetry.Cursor) error {
	for i := range records {
		p := records[i].Position
		if records[i].Dead != nil || r.at.Seen(p) || !to.Seen(p) {
			continue
		}
		json, ok := r.post.store.keep(records[i].Value, &r.post.scratch)
		if !ok {
			r.at.Advance(p)
			continue
		}
		if err := r.put(ctx, json, p); err != nil {
			return err
		}
		if r.post.full() {
			if err := r.turn(ctx); err != nil {
				return err
			}
		}
	}
	return r.turn(ctx)
}

// placePatience is how long a place among those that read log or history is kept
// for a client that has not yet taken what it was given. Clients that read
// need less; those that do not must not keep the others waiting.
const placePatience = 10 * time.Millisecond

// turn delivers what is in hand while log or history is being read. errPage:
// the client is slow, and the place is to be given up first.
func (r *runner) turn(ctx context.Context) error {
	switch {
	case r.s.query.Speed > 0 || r.held():
		// Playback has places of its own, and must not lose them.
	case !r.post.full() && r.out.busy():
		return ctx.Err() // there is room for more
	case !r.out.idleWithin(ctx, placePatience):
		return errPage
	}
	return r.deliver(ctx)
}

// admit takes a place among those that read log or history at once. Playback
// may hold one for hours, so it is refused where others wait.
func (r *runner) admit(ctx context.Context) (release func(), err error) {
	if r.s.query.Speed > 0 {
		select {
		case r.h.playbacks <- struct{}{}:
			return func() { <-r.h.playbacks }, nil
		default:
			r.h.events.refused("Playbacks")
			return nil, fmt.Errorf("broadcaster: %d playbacks at once are the limit: %w", cap(r.h.playbacks), telemetry.ErrOverloaded)
		}
	}
	select {
	case r.h.catchUps <- struct{}{}:
		return func() { <-r.h.catchUps }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// gone says whether a cursor points at what a log with these bounds does not
// hold: the error is a wrapped [telemetry.ErrGone].
func gone(c, first, next telemetry.Cursor) error {
	if c.Log != first.Log {
		return fmt.Errorf("%w: it belongs to a log that was deleted", telemetry.ErrGone)
	}
	for p, have := range first.Next {
		if have > 0 && (p >= len(c.Next) || c.Next[p] < have) {
			return fmt.Errorf("%w: the log holds nothing before %d of partition %d any more", telemetry.ErrGone, have, p)
		}
	}
	for p, want := range c.Next {
		if p >= len(next.Next) && want > 0 || p < len(next.Next) && want > next.Next[p] {
			return fmt.Errorf("%w: partition %d of the log has never reached %d", telemetry.ErrGone, p, want)
		}
	}
	return nil
}

// gap tells the client that what lay before a cursor is gone, and goes on at
// what there is.
func (r *runner) gap(ctx context.Context, first, next telemetry.Cursor) error {
	r.h.events.gap()
	old := r.s.at
	if err := r.settle(ctx); err != nil {
		return err
	}
	if r.at.Log == first.Log {
		r.at = merge(r.at, first)
		r.at.Next = r.at.Next[:min(len(r.at.Next), len(next.Next))]
		for p := range r.at.Next {
			// Beyond the end the cursor was never true, and would be gone for ever.
			r.at.Next[p] = min(r.at.Next[p], next.Next[p])
		}
	} else {
		r.at = first.Clone()
	}
	r.inRing = false
	e := Event{Name: EventGap, From: old, Cursor: r.at.Clone()}
	if err := r.out.send(ctx, r.s.client.form.Event(nil, r.s.id, &e)); err != nil {
		return err
	}
	r.s.at = r.at.Clone()
	return nil
}

// errPage ends a page of log or history.
var errPage = errors.New("the page is full")

// pageItems is how much of history playback reads ahead: a snapshot of the
// database is not held open for the hours that playback can take.
const pageItems = 1000

// replay sends the past, and goes on in the log where the history ends.
func (r *runner) replay(ctx context.Context) error {
	release, err := r.admit(ctx)
	if err != nil {
		return err
	}
	release = sync.OnceFunc(release)
	defer release()
	playing := r.s.query.Speed > 0
	var page []Item
	r.h.mu.Lock()
	log := r.h.vec.Log
	r.h.mu.Unlock()
	span := telemetry.Span{After: r.at, To: r.s.query.To, Filter: r.s.query.Filter}
	end, err := r.h.history.Replay(ctx, log, span, func(reading *telemetry.Reading) error {
		item, ok := r.recall(reading)
		switch {
		case !ok:
			return nil
		case !playing:
			return r.tell(ctx, item)
		}
		if page = append(page, item); len(page) >= pageItems {
			return errPage
		}
		return nil
	})
	full := errors.Is(err, errPage)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errLeft):
		return err
	case err != nil && !full:
		return fmt.Errorf("broadcaster: replay: %w", err)
	}
	if !playing {
		release() // the client decides how long it takes
	}
	if err := r.playPage(ctx, page); err != nil || full {
		return err
	}
	return r.leavePast(ctx, end)
}

// leavePast goes on in the log, at the cursor that history answered.
func (r *runner) leavePast(ctx context.Context, end telemetry.Cursor) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.at, r.s.at = end.Clone(), end.Clone()
	return nil
}

// recall makes an item of a lent reading of the past.
func (r *runner) recall(reading *telemetry.Reading) (Item, bool) {
	scratch := &r.post.scratch
	scratch.Device, scratch.Time = reading.Device, reading.Time
	scratch.Metrics = append(scratch.Metrics[:0], reading.Metrics...)
	if !r.s.query.wants(scratch) {
		return Item{}, false
	}
	json := scratch.AppendJSON(nil)
	return Item{JSON: json, Time: reading.Time, Device: reading.Device}, true
}

// tell takes an item of the past in hand and sends when there is enough.
func (r *runner) tell(ctx context.Context, item Item) error {
	r.post.scratch.Device = item.Device
	r.take(item)
	r.at = telemetry.Cursor{Time: item.Time, Device: item.Device}
	if r.post.full() || time.Since(r.post.sent) > longTick {
		return r.turn(ctx)
	}
	return nil
}

func (r *runner) playPage(ctx context.Context, page []Item) error {
	for _, item := range page {
		if err := r.pace(ctx, item.Time); err != nil {
			return err
		}
		if err := r.tell(ctx, item); err != nil {
			return err
		}
	}
	return r.deliver(ctx)
}
