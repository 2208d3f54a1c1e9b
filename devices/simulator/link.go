package simulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"
)

const (
	// window is how many messages one connection has under way at most. It is
	// what a lost connection costs in messages sent twice.
	window = 1024
	// windowBytes bounds the same in bytes of payload.
	windowBytes = 1 << 20
	// drainTime is how long a cancelled link waits for what is under way.
	drainTime = 5 * time.Second
)

type linkConfig struct {
	address        *url.URL
	client         string // MQTT client id
	user, password string
	patience       time.Duration // see Broker.Patience; never 0
	log            *slog.Logger
	events         Events
}

// link publishes what comes through in, in order and at least once, over one
// connection at a time. Its fields belong to the goroutine in run.
type link struct {
	config linkConfig
	in     chan message // closed by the sender when no more come

	pending []message // sent and not acknowledged, oldest first
	bytes   int       // of pending's payloads
	open    bool      // in may have more
	running sync.WaitGroup
	wait    time.Duration // before the next attempt to connect
}

func newLink(config linkConfig, room int) *link {
	return &link{config: config, in: make(chan message, room), open: true}
}

// errUndelivered: a cancelled link could not deliver all it had taken.
var errUndelivered = errors.New("stopped before the broker had acknowledged all")

// run works until in is closed and everything from it is acknowledged; then it
// returns nil. Once ctx is cancelled, the sender closes in and run has drainTime
// for the rest. An error says that messages may not have arrived.
func (l *link) run(ctx context.Context) error {
	defer l.running.Wait()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainTime, end) })
	defer stop()
	for {
		s, err := l.connect(ctx, life)
		if err != nil {
			return l.outcome(ctx, err)
		}
		err = l.pump(life, s)
		s.close(err == nil)
		if err == nil || life.Err() != nil {
			return l.outcome(ctx, err)
		}
		l.config.log.Warn("connection lost; unacknowledged messages are sent again",
			"client", l.config.client, "unacknowledged", len(l.pending), "error", err)
		if l.config.events.Lost != nil {
			l.config.events.Lost(l.config.client, err)
		}
	}
}

// outcome is run's answer: a cancelled link with nothing left ends well.
func (l *link) outcome(ctx context.Context, err error) error {
	if ctx.Err() == nil || err == nil {
		return err
	}
	if left := len(l.pending) + len(l.in); left > 0 {
		return fmt.Errorf("%w: %d messages under way", errUndelivered, left)
	}
	return nil
}

// connect dials until it succeeds, patience ends, or nothing is left to do.
func (l *link) connect(ctx, life context.Context) (*session, error) {
	began := time.Now()
	first := l.wait == 0 // never connected: a wrong address should be told at once
	for {
		attempt := life
		if len(l.pending)+len(l.in) == 0 {
			attempt = ctx
		}
		if !pause(attempt, l.wait) {
			return nil, attempt.Err()
		}
		l.wait = min(max(2*l.wait, 100*time.Millisecond), 5*time.Second)
		s, err := dial(attempt, &l.config, &l.running)
		if err == nil {
			return s, nil
		}
		patient := l.config.patience < 0
		if !patient && (first || errors.Is(err, errRefused) || time.Since(began) > l.config.patience) {
			return nil, err
		}
		l.config.log.Debug("broker is away", "client", l.config.client, "error", err)
	}
}

// pump sends what is pending, then what comes, until all is done (nil) or the
// session fails.
func (l *link) pump(life context.Context, s *session) error {
	for _, m := range l.pending {
		s.queue <- m // has room for a window
	}
	if l.config.events.Connected != nil {
		l.config.events.Connected(l.config.client, len(l.pending))
	}
	for l.open || len(l.pending) > 0 {
		in := l.in
		if !l.open || len(l.pending) >= window || l.bytes >= windowBytes {
			in = nil
		}
		select {
		case m, more := <-in:
			if !more {
				l.open = false
				continue
			}
			l.pending = append(l.pending, m)
			l.bytes += len(m.payload)
			s.queue <- m
		case <-s.acked:
			l.settle(1 + drained(s.acked))
		case err := <-s.failed:
			l.settle(drained(s.acked))
			return err
		case <-life.Done():
			return life.Err()
		}
	}
	return nil
}

// settle takes the oldest n messages off the window.
func (l *link) settle(n int) {
	if n == 0 {
		return
	}
	for i := range l.pending[:n] {
		l.bytes -= len(l.pending[i].payload)
	}
	rest := copy(l.pending, l.pending[n:])
	clear(l.pending[rest:])
	l.pending = l.pending[:rest]
	l.wait = time.Millisecond // it works: the next loss starts with little waiting
	if l.config.events.Acknowledged != nil {
		l.config.events.Acknowledged(n)
	}
}

// drained takes what c has and answers how much that was.
func drained(c <-chan struct{}) (n int) {
	for {
		select {
		case <-c:
			n++
		default:
			return n
		}
	}
}

// pause waits for d; false: ctx was cancelled before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
