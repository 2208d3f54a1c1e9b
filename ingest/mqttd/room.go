package mqttd

import (
	"sync"
	"sync/atomic"
)

// room bounds the bytes of all messages that wait for the log. Safe for
// concurrent use.
type room struct {
	most    int64
	used    atomic.Int64
	waiting atomic.Int32

	mu     sync.Mutex
	cond   *sync.Cond
	closed bool // mu: nobody waits any more
}

func newRoom(most int64) *room {
	r := &room{most: most}
	r.cond = sync.NewCond(&r.mu)
	return r
}

// take takes n bytes of room. Without room it waits, or answers false if wait is
// false; once closed it answers false instead of waiting. One message always
// has room, whatever its size.
func (r *room) take(n int64, wait bool) bool {
	if r.try(n) {
		return true
	}
	if !wait {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	// try again under waiting: a give in between would not have seen it.
	for !r.try(n) {
		if r.closed {
			return false
		}
		r.cond.Wait()
	}
	return true
}

func (r *room) try(n int64) bool {
	if used := r.used.Add(n); used <= r.most || used == n {
		return true
	}
	r.used.Add(-n)
	return false
}

func (r *room) give(n int64) {
	r.used.Add(-n)
	if r.waiting.Load() > 0 {
		r.mu.Lock()
		r.cond.Broadcast()
		r.mu.Unlock()
	}
}

func (r *room) close() {
	r.mu.Lock()
	r.closed = true
	r.cond.Broadcast()
	r.mu.Unlock()
}
