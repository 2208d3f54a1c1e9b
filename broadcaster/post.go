package broadcaster

import (
	"time"

	"millrace/telemetry"
)

// post is what a runner has in hand for its client and has not sent: readings
// in their order, with Query.Every the newest of each device only.
type post struct {
	items    []Item // those without JSON were overtaken by a newer one
	size     int
	from     telemetry.Cursor // before the first item
	newest   map[string]int   // with Query.Every: each device's place in items
	sent     time.Time        // when something was last sent
	unsent   []byte           // encoded, but the client was not ready
	unsentAt telemetry.Cursor // behind it
	taken    uint64           // readings that matched since something was sent
	store    arena
	scratch  telemetry.Reading

	// Playback: began is when the reading of the time zero was played.
	began, zero time.Time
}

// A post is sent when it holds so much.
const (
	postBytes = 64 << 10
	postItems = stride
)

func (p *post) empty() bool { return len(p.items) == 0 && len(p.unsent) == 0 }

func (p *post) full() bool { return p.size >= postBytes || len(p.items) >= postItems }

// add takes over an item. device is given if only its newest counts.
func (p *post) add(item Item, device string) {
	if device != "" {
		if p.newest == nil {
			p.newest = make(map[string]int)
		}
		if i, ok := p.newest[device]; ok {
			p.size -= len(p.items[i].JSON)
			p.items[i].JSON = nil
		}
		p.newest[device] = len(p.items)
		p.tidy()
	}
	p.items = append(p.items, item)
	p.size += len(item.JSON)
}

// tidy drops overtaken items once they are most of what there is.
func (p *post) tidy() {
	if len(p.items) < 1024 || len(p.items) < 2*len(p.newest) {
		return
	}
	p.compact()
	clear(p.newest)
	for i := range p.items {
		// Devices are read back from the canonical form, which begins with them.
		if telemetry.ParseReading(p.items[i].JSON, &p.scratch) == nil {
			p.newest[p.scratch.Device] = i
		}
	}
}

func (p *post) compact() {
	kept := p.items[:0]
	for _, item := range p.items {
		if item.JSON != nil {
			kept = append(kept, item)
		}
	}
	p.items = kept
}

// encode turns the items into unsent bytes; at is the cursor behind them.
func (p *post) encode(form Form, id string, at telemetry.Cursor) {
	p.compact()
	if len(p.items) == 0 {
		return
	}
	p.unsentAt = at.Clone()
	p.unsent = form.Readings(p.unsent, id, &Batch{Items: p.items, From: p.from, To: p.unsentAt})
	p.items, p.size = p.items[:0], 0
	clear(p.newest)
}

// gone is called when the unsent bytes have been handed over.
func (p *post) gone(now time.Time) {
	p.unsent, p.sent, p.taken = nil, now, 0
}

// drop forgets what was not sent.
func (p *post) drop() {
	p.items, p.size, p.unsent, p.taken = p.items[:0], 0, nil, 0
	clear(p.newest)
}

// due is in what time a reading is to be played.
func (p *post) due(t time.Time, speed float64, now time.Time) time.Duration {
	if p.began.IsZero() {
		p.began, p.zero = now, t
	}
	since := time.Duration(float64(t.Sub(p.zero)) / speed)
	return p.began.Add(since).Sub(now)
}
