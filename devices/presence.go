package devices

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// PresenceConfig configures a [Presence]. The zero value is a good one.
type PresenceConfig struct {
	Flush time.Duration // between two writes to the store; 0: ten seconds
	Limit int           // devices remembered at once; 0: a million. More are not tracked, and counted
	Batch int           // devices a write at most; 0: 5,000
	Log   *slog.Logger  // nil: none
	// Flushed is told of each write: how many devices, and its error. Untracked
	// is told of each sighting that found no room. Each may be nil.
	Flushed   func(devices int, err error)
	Untracked func()
}

// Presence remembers when each device was last heard of and writes what changed
// to a [Sightings] in batches, so that a message costs no statement. Safe for
// concurrent use.
type Presence struct {
	store  Sightings
	config PresenceConfig
	seen   sync.Map     // device name → *sighting
	count  atomic.Int64 // of seen
}

// sighting: when the device was last heard of, and up to where that is written;
// Unix microseconds.
type sighting struct{ at, written atomic.Int64 }

// flushTimeout bounds one write to the store.
const flushTimeout = 10 * time.Second

// NewPresence makes a presence. store may be nil: then nothing is written.
func NewPresence(store Sightings, config PresenceConfig) *Presence {
	if config.Flush <= 0 {
		config.Flush = 10 * time.Second
	}
	if config.Limit <= 0 {
		config.Limit = 1_000_000
	}
	if config.Batch <= 0 {
		config.Batch = 5_000
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Presence{store: store, config: config}
}

// Heard notes that the device was heard of at the time given. It never blocks,
// and allocates only for a device not remembered.
func (p *Presence) Heard(device string, at time.Time) {
	entry, found := p.seen.Load(device)
	if !found {
		if p.count.Load() >= int64(p.config.Limit) {
			if p.config.Untracked != nil {
				p.config.Untracked()
			}
			return
		}
		if entry, found = p.seen.LoadOrStore(device, new(sighting)); !found {
			p.count.Add(1)
		}
	}
	raise(&entry.(*sighting).at, at.UnixMicro())
}

// raise makes v at least to.
func raise(v *atomic.Int64, to int64) {
	for was := v.Load(); to > was; was = v.Load() {
		if v.CompareAndSwap(was, to) {
			return
		}
	}
}

// Last answers when the device was last heard of by this process. false: not
// since it started, or not for a few flushes.
func (p *Presence) Last(device string) (time.Time, bool) {
	entry, found := p.seen.Load(device)
	if !found {
		return time.Time{}, false
	}
	at := entry.(*sighting).at.Load()
	return time.UnixMicro(at).UTC(), at != 0
}

// Run writes what changed until ctx is cancelled, then writes the rest and
// returns nil. A write that fails is tried again with the next.
func (p *Presence) Run(ctx context.Context) error {
	ticker := time.NewTicker(p.config.Flush)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = p.flush(context.WithoutCancel(ctx)) // told through Flushed
			return nil
		case <-ticker.C:
			_ = p.flush(ctx) // told through Flushed
		}
	}
}

// flush writes what changed since the last one, and forgets devices that had
// nothing to say for a while.
func (p *Presence) flush(ctx context.Context) error {
	stale := time.Now().Add(-10 * p.config.Flush).UnixMicro()
	batch := make(map[string]time.Time)
	var failed error
	p.seen.Range(func(key, value any) bool {
		entry := value.(*sighting)
		at := entry.at.Load()
		switch {
		case at > entry.written.Load():
			batch[key.(string)] = time.UnixMicro(at).UTC()
		case at < stale && p.seen.CompareAndDelete(key, value):
			p.count.Add(-1)
		}
		if len(batch) >= p.config.Batch {
			failed = errors.Join(failed, p.write(ctx, batch))
			clear(batch)
		}
		return true
	})
	return errors.Join(failed, p.write(ctx, batch))
}

func (p *Presence) write(ctx context.Context, batch map[string]time.Time) error {
	if len(batch) == 0 {
		return nil
	}
	var err error
	if p.store != nil {
		ctx, cancel := context.WithTimeout(ctx, flushTimeout)
		defer cancel()
		err = p.store.Seen(ctx, batch)
	}
	if p.config.Flushed != nil {
		p.config.Flushed(len(batch), err)
	}
	if err != nil {
		p.config.Log.Warn("last sightings of devices were not written; tried again", "devices", len(batch), "error", err)
		return err
	}
	for device, at := range batch {
		if entry, found := p.seen.Load(device); found {
			raise(&entry.(*sighting).written, at.UnixMicro())
		}
	}
	return nil
}
