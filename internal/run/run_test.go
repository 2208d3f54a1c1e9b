package run_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"millrace/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transcript collects what happened, in order.
type transcript struct {
	mu    sync.Mutex // protects lines
	lines []string
}

func (t *transcript) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
}

// service drains for the given time once it is stopped.
func (t *transcript) service(name string, drain time.Duration, err error) run.Named {
	return run.Named{Name: name, Service: run.Func(func(ctx context.Context) error {
		<-ctx.Done()
		t.add(name + " stops")
		timer := time.NewTimer(drain)
		<-timer.C
		t.add(name + " stopped")
		return err
	})}
}

func failing(name string, after time.Duration, err error) run.Named {
	return run.Named{Name: name, Service: run.Func(func(context.Context) error {
		<-time.NewTimer(after).C
		return err
	})}
}

func (t *transcript) expect(tt *testing.T, want ...string) {
	tt.Helper()
	if !slices.Equal(t.lines, want) {
		tt.Errorf("happened %q, want %q", t.lines, want)
	}
}

func TestStopsUpstreamFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said transcript
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := run.Together(ctx, slog.New(slog.DiscardHandler), time.Second,
			said.service("door", time.Millisecond, nil), said.service("sink", 0, nil), said.service("floor", 0, nil))
		if err != nil {
			t.Error(err)
		}
		said.expect(t, "door stops", "door stopped", "sink stops", "sink stopped", "floor stops", "floor stopped")
	})
}

func TestOneErrorEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said transcript
		cause := errors.New("disk full")
		err := run.Together(t.Context(), slog.New(slog.DiscardHandler), time.Second,
			said.service("door", 0, errors.New("a later one")), failing("log", time.Second, cause))
		if !errors.Is(err, cause) || err.Error() != "log: disk full" {
			t.Errorf("answered %v, want log: disk full", err)
		}
		said.expect(t, "door stops", "door stopped")
	})
}

func TestEndingByItselfIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := run.Together(t.Context(), slog.New(slog.DiscardHandler), time.Second, failing("hub", time.Second, nil))
		if err == nil || err.Error() != "hub: ended by itself" {
			t.Errorf("answered %v", err)
		}
	})
}

func TestGraceLetsTheNextStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said transcript
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := run.Together(ctx, slog.New(slog.DiscardHandler), time.Second,
			said.service("door", 3*time.Second, nil), said.service("floor", 0, nil)); err != nil {
			t.Error(err)
		}
		said.expect(t, "door stops", "floor stops", "floor stopped", "door stopped")
	})
}
