// Package run keeps services running together and stops them in the order in
// which readings flow.
//
//	start: all at once          stop: one after another, upstream first
//	door ─▶ log ─▶ sink, hub    close the doors, let the log drain, commit,
//	                            then close the floor
//
// Its invariant: [Together] returns only after every service has returned.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
)

// Service runs until ctx is done, drains what it holds, and returns nil. What
// can fail at the start has failed in its constructor. An error from Run ends
// everything that runs together with it.
type Service interface {
	Run(ctx context.Context) error
}

// Func is a function as a Service.
type Func func(ctx context.Context) error

// Run calls the function.
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Named is a service and its name in errors and logs.
type Named struct {
	Name string
	Service
}

// Together runs the services, which stand in the order in which readings flow,
// until ctx is done or one of them returns. It then stops them one after
// another from the first to the last and waits for each. It answers the first
// error, nil if there was none.
//
// A service that has not drained within grace is told so in the log, and the
// next is stopped beside it: a floor that never closes helps nobody.
func Together(ctx context.Context, log *slog.Logger, grace time.Duration, services ...Named) error {
	var all errgroup.Group
	ended := make(chan struct{}, len(services))
	base := context.WithoutCancel(ctx)
	running := make([]running, 0, len(services))
	for _, service := range services {
		r := start(base, service)
		running = append(running, r)
		all.Go(func() error {
			<-r.done
			ended <- struct{}{}
			return *r.err
		})
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	for _, r := range running {
		r.stop(log, grace)
	}
	return all.Wait()
}

// running is one service that was started. done is closed once it has
// returned, and err is set before that.
type running struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    *error
}

func start(base context.Context, service Named) running {
	ctx, cancel := context.WithCancel(base)
	r := running{service.Name, cancel, make(chan struct{}), new(error)}
	go func() { // ends when stop cancels ctx, or by itself
		defer close(r.done)
		defer cancel()
		err := service.Run(ctx)
		switch {
		case err == nil && ctx.Err() == nil:
			*r.err = fmt.Errorf("%s: ended by itself", service.Name)
		case err != nil && !errors.Is(err, context.Canceled):
			*r.err = fmt.Errorf("%s: %w", service.Name, err)
		}
	}()
	return r
}

func (r running) stop(log *slog.Logger, grace time.Duration) {
	r.cancel()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-r.done:
		log.Debug("stopped", slog.String("service", r.name))
	case <-timer.C:
		log.Warn("still draining; going on to the next", slog.String("service", r.name), slog.Duration("after", grace))
	}
}
