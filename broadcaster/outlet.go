package broadcaster

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// Link is a client's connection, as the hub writes to it. Write may be called
// from any goroutine but from one at a time; a Link that is also a
// [syscall.Conn] is written to without waiting, so what SyscallConn gives must
// be the plain socket. After Close the peer sees the end of the stream.
type Link interface {
	Write(b []byte) (int, error)
	SetWriteDeadline(t time.Time) error
	Close() error
}

// maxControl bounds the messages queued for a client that does not read.
const maxControl = 64

// outlet is the one place from which bytes go to a client. What the socket does
// not take at once waits in the queue, and a goroutine drains it; while it does,
// offer takes nothing more, so a client's debt is at most what was offered once.
// Bytes are shared between outlets: nobody may change them.
type outlet struct {
	link   Link
	quick  *quick
	stall  time.Duration
	failed func(Reason)  // called at most once, without a lock, in a goroutine of its own
	gone   chan struct{} // closed when the link is

	mu       sync.Mutex // protects what follows
	queue    [][]byte
	draining bool
	idle     chan struct{} // closed when the queue has been drained; nil: nobody waits
	closing  bool          // nothing more is taken
	closeBy  time.Time     // when closing: until when the queue may be drained
	dead     bool
	used     int64 // UnixNano of the last write
}

func newOutlet(link Link, stall time.Duration, failed func(Reason)) *outlet {
	return &outlet{link: link, quick: newQuick(link), stall: stall, failed: failed, gone: make(chan struct{}), used: time.Now().UnixNano()}
}

// offer hands b over without waiting. It answers false if the client has not
// yet taken what it was given before: then nothing of b was taken.
func (o *outlet) offer(b []byte, now int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead || o.closing {
		return true // whoever closed it removes the client
	}
	if o.draining {
		return false
	}
	o.used = now
	o.putLocked(b)
	return true
}

// control hands over a small message that may overtake readings not yet
// offered, such as an acknowledgement or a pong. Never waits.
func (o *outlet) control(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) > maxControl {
		o.failLocked(Flooding)
		return
	}
	o.putLocked(b)
}

// send waits until the client has taken what it was given before, and hands
// over b.
func (o *outlet) send(ctx context.Context, b []byte) error {
	for {
		if err := o.wait(ctx); err != nil {
			return err
		}
		if o.offer(b, time.Now().UnixNano()) {
			return nil
		}
	}
}

// wait returns when nothing is queued.
func (o *outlet) wait(ctx context.Context) error {
	o.mu.Lock()
	if o.dead || o.closing {
		o.mu.Unlock()
		return errLeft
	}
	if !o.draining {
		o.mu.Unlock()
		return ctx.Err()
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-o.gone:
		return errLeft
	case <-ctx.Done():
		return ctx.Err()
	}
}

// idleWithin says whether nothing is queued, or will be before the time is over;
// also true if the client is gone or ctx ends, which whoever sends will notice.
func (o *outlet) idleWithin(ctx context.Context, d time.Duration) bool {
	brief, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return !errors.Is(o.wait(brief), context.DeadlineExceeded) || ctx.Err() != nil
}

// busy says whether something is queued.
func (o *outlet) busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.draining
}

// errLeft ends a runner whose client is gone.
var errLeft = errors.New("the client is gone")

func (o *outlet) putLocked(b []byte) {
	if o.dead || o.closing || len(b) == 0 {
		return
	}
	if !o.draining && o.quick != nil {
		n, err := o.quick.write(b)
		if err != nil {
			o.failLocked(Broken)
			return
		}
		if b = b[n:]; len(b) == 0 {
			return
		}
	}
	o.queue = append(o.queue, b)
	o.startLocked()
}

func (o *outlet) startLocked() {
	if !o.draining {
		o.draining = true
		go o.drain() // ends when the queue is empty, the link fails or closeBy comes
	}
}

func (o *outlet) drain() {
	for {
		b, deadline, ok := o.nextToDrain()
		if !ok {
			return
		}
		_ = o.link.SetWriteDeadline(deadline)
		for len(b) > 0 {
			n, err := o.link.Write(b)
			b = b[n:]
			if err != nil && !(n > 0 && o.extend(err)) {
				o.mu.Lock()
				o.failLocked(reasonOf(err))
				o.mu.Unlock()
				return
			}
		}
	}
}

// extend gives a client that took something in time more time.
func (o *outlet) extend(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	_ = o.link.SetWriteDeadline(time.Now().Add(o.stall))
	return true
}

func reasonOf(err error) Reason {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Stalled
	}
	return Broken
}

// nextToDrain is what to write next and until when; not ok: the queue is empty.
func (o *outlet) nextToDrain() (b []byte, deadline time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead {
		return nil, deadline, false
	}
	if len(o.queue) == 0 {
		o.draining, o.queue = false, nil
		if o.idle != nil {
			close(o.idle)
			o.idle = nil
		}
		if o.closing {
			o.closeLocked()
			return nil, deadline, false
		}
		// A deadline in the past would fail the next write that does not wait.
		_ = o.link.SetWriteDeadline(time.Time{})
		return nil, deadline, false
	}
	b = o.queue[0]
	o.queue = o.queue[1:]
	if o.closing {
		return b, o.closeBy, true
	}
	return b, time.Now().Add(o.stall), true
}

// finish hands over the last bytes and closes the link when they are gone, or
// after grace at the latest.
func (o *outlet) finish(b []byte, grace time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead || o.closing {
		return
	}
	o.putLocked(b)
	o.closing, o.closeBy = true, time.Now().Add(grace)
	if o.draining {
		_ = o.link.SetWriteDeadline(o.closeBy) // also for the write under way
		return
	}
	o.closeLocked()
}

func (o *outlet) failLocked(r Reason) {
	if o.dead {
		return
	}
	closing := o.closing
	o.closeLocked()
	if !closing {
		go o.failed(r) // ends by itself: it only removes the client
	}
}

// abort closes the link at once.
func (o *outlet) abort() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closeLocked()
}

func (o *outlet) closeLocked() {
	if o.dead {
		return
	}
	o.dead, o.queue = true, nil
	_ = o.link.Close()
	close(o.gone)
}

// quiet says whether nothing was written since the time given, and makes it so
// that the next heartbeat comes as late.
func (o *outlet) quiet(since, now int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.draining || o.used > since {
		return false
	}
	o.used = now
	return true
}
