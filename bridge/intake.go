package bridge

import "sync"

// delivery is a message of the other broker; paho's Message is one.
type delivery interface {
	Qos() byte
	Topic() string
	Payload() []byte
	Ack()
}

type limits struct{ messages, bytes int }

// intake is the messages of one connection that are not acknowledged yet, in the
// order in which they came.
//
//	        handed to the gate        not yet
//	items: [ a b c d e f g h i ... | ... x y z ]
//	         ▲ done ones leave here, in order   ▲ take
//
// take never blocks, because it runs where paho reads the connection: a reader
// that waits misses the answer to its ping, and the broker drops it. So what is
// too much is not waited for but not taken: from then on nothing of this
// connection is, because a later message must not overtake an earlier one. Once
// all that was taken is acknowledged, the session ends itself, and the broker
// sends the rest again.
type intake struct {
	limits  limits
	arrived chan struct{} // holds one: there may be something to hand on
	settled chan struct{} // holds one: something is done, or the state changed

	mu     sync.Mutex
	items  []*item // guarded by mu
	handed int     // guarded by mu: of items, given to the gate
	open   int     // guarded by mu: of those handed, not done
	bytes  int     // guarded by mu: of payloads not done
	full   bool    // guarded by mu: takes nothing more
	closed bool    // guarded by mu: takes and hands on nothing more
	failed error   // guarded by mu: of the first item in order that the log did not take
	acked  int     // guarded by mu: acknowledged so far
}

type item struct {
	delivery
	size int
	done bool  // guarded by intake.mu
	err  error // guarded by intake.mu
}

func newIntake(l limits) *intake {
	return &intake{limits: l, arrived: make(chan struct{}, 1), settled: make(chan struct{}, 1)}
}

// signal wakes the reader of c, now or at its next look.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take takes a message in; false: it is left, unacknowledged.
func (in *intake) take(d delivery) bool {
	size := len(d.Payload())
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.items) > 0 && (len(in.items) >= in.limits.messages || in.bytes+size > in.limits.bytes) {
		// A dropped QoS 0 message is gone anyway: no reason to begin anew.
		in.full = in.full || d.Qos() > 0
		return false
	}
	if in.full || in.closed {
		return false
	}
	in.items = append(in.items, &item{delivery: d, size: size})
	in.bytes += size
	signal(in.arrived)
	return true
}

// next is the next message to hand on; nil: none now.
func (in *intake) next() *item {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed || in.failed != nil || in.handed == len(in.items) {
		return nil
	}
	i := in.items[in.handed]
	in.handed++
	in.open++
	return i
}

// finish notes that the log has the item, or why it has not. Never blocks.
func (in *intake) finish(i *item, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	i.done, i.err = true, err
	in.open--
	in.bytes -= i.size
	signal(in.settled)
}

// settle takes the finished items off the front, up to the first that the log
// did not take: they may be acknowledged. Those with QoS 0 never fail; dropped
// counts them.
func (in *intake) settle() (done []*item, dropped int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := 0
	for n < in.handed && in.items[n].done && in.failed == nil {
		i := in.items[n]
		switch {
		case i.err == nil:
			done = append(done, i)
		case i.Qos() == 0:
			dropped++
		default:
			in.failed = i.err
			continue
		}
		in.items[n] = nil // its payload is the collector's
		n++
	}
	in.items = in.items[n:]
	in.handed -= n
	return done, dropped
}

// acknowledged counts.
func (in *intake) acknowledged(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.acked += n
}

// close: nothing more is taken or handed on.
func (in *intake) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	signal(in.settled)
}

// state answers whether a full intake has become empty, whether all that was
// handed on is done and has left, and the failure.
func (in *intake) state() (emptied, idle bool, failed error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.full && len(in.items) == 0, in.open == 0 && (in.handed == 0 || in.failed != nil), in.failed
}
