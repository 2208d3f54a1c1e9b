package devices

import (
	"context"
	"fmt"
	"time"
)

// Run keeps the copy fresh until ctx is cancelled, and then returns nil. A store
// that fails is asked again, ever more slowly up to ten seconds; a login with an
// unknown token makes it ask at once.
func (r *Registry) Run(ctx context.Context) error {
	wait := time.Duration(0)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var last time.Time
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.missed:
			if !sleep(ctx, time.Until(last.Add(missGap))) {
				return nil
			}
		}
		last = time.Now()
		if err := r.refresh(ctx); err == nil {
			failures = 0
		} else if ctx.Err() != nil {
			return nil
		} else {
			failures++
		}
		timer.Reset(r.pause(failures))
	}
}

// pause is the time until the next look, after so many failures in a row.
func (r *Registry) pause(failures int) time.Duration {
	if failures > 5 {
		failures = 5
	}
	return max(r.config.Refresh, min(r.config.Refresh<<failures/2, maxBackoff))
}

// refresh reads the store once, and wakes who waits for it.
func (r *Registry) refresh(ctx context.Context) error {
	// Who comes from now on must wait for a look that begins later.
	r.mu.Lock()
	over := r.next
	r.next = make(chan struct{})
	r.mu.Unlock()
	err := r.read(ctx)
	r.mu.Lock()
	failedBefore := r.lastErr != nil
	r.lastErr = err
	r.mu.Unlock()
	close(over)
	switch {
	case err != nil && ctx.Err() == nil:
		if r.config.Events.Failed != nil {
			r.config.Events.Failed(err)
		}
		if !failedBefore { // once an outage, not once a second
			r.config.Log.Warn("device store is away; known devices go on", "error", err)
		}
	case err == nil && failedBefore:
		r.config.Log.Info("device store is back")
	}
	return err
}

func (r *Registry) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	began := time.Now()
	list, err := r.store.List(ctx)
	if err != nil {
		return fmt.Errorf("devices: list: %w", err)
	}
	now := index(list)
	before := r.known.Swap(now)
	r.tell(before, now)
	if r.config.Events.Refreshed != nil {
		r.config.Events.Refreshed(len(list), time.Since(began))
	}
	return nil
}

func index(list []Device) *copied {
	c := &copied{
		byHash: make(map[[32]byte]*Device, len(list)),
		byName: make(map[string]*Device, len(list)),
	}
	for i := range list {
		d := &list[i]
		c.byName[d.Name] = d
		if len(d.TokenHash) == 32 {
			c.byHash[[32]byte(d.TokenHash)] = d
		}
	}
	return c
}

// sleep waits for d, or answers false when ctx is cancelled before.
func sleep(ctx context.Context, d time.Duration) bool {
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
