package devices_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"millrace/devices"
)

func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := newMemory()
		untracked := 0
		p := devices.NewPresence(store, devices.PresenceConfig{Limit: 30, Batch: 10, Untracked: func() { untracked++ }})
		over := make(chan error)
		go func() { over <- p.Run(ctx) }()
		began := time.Now()
		for i := range 40 {
			p.Heard(fmt.Sprintf("d%d", i), began)
		}
		p.Heard("d0", began.Add(-time.Hour))
		if at, known := p.Last("d0"); !known || !at.Equal(began) {
			t.Errorf("d0 was last heard of at %s", at)
		}
		if _, known := p.Last("nobody"); known || untracked != 10 {
			t.Errorf("%d were not tracked", untracked)
		}
		pass(11 * time.Second)
		if fmt.Sprint(store.sights) != "[10 10 10]" || !store.list["d5"].Seen.Equal(began) {
			t.Errorf("written were %v; d5 is %+v", store.sights, store.list["d5"])
		}
		p.Heard("d5", time.Now())
		pass(10 * time.Second)
		if fmt.Sprint(store.sights) != "[10 10 10 1]" {
			t.Errorf("written were %v", store.sights)
		}

		// A store that is away: nothing is lost, it is written later.
		store.set(errors.New("away"))
		p.Heard("d6", time.Now())
		pass(10 * time.Second)
		store.set(nil)
		pass(10 * time.Second)
		if !store.list["d6"].Seen.After(began) {
			t.Errorf("d6 is %+v", store.list["d6"])
		}

		// Who says nothing for long is forgotten, and makes room.
		pass(5 * time.Minute)
		if _, known := p.Last("d0"); known {
			t.Error("d0 is still remembered")
		}
		p.Heard("late", time.Now())
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		if store.list["late"].Seen.IsZero() {
			t.Error("the last sighting was not written at the end")
		}
	})
}

func TestPresenceAllocatesNothing(t *testing.T) {
	p := devices.NewPresence(nil, devices.PresenceConfig{})
	now := time.Now()
	p.Heard("a", now)
	if n := testing.AllocsPerRun(100, func() { p.Heard("a", now) }); n > 1 { // the key as an interface
		t.Errorf("a sighting costs %g allocations", n)
	}
}

func BenchmarkHeard(b *testing.B) {
	p := devices.NewPresence(nil, devices.PresenceConfig{})
	now := time.Now()
	for b.Loop() {
		p.Heard("a", now)
	}
}
