package broadcaster

import (
	"cmp"
	"time"
)

// Limits bound what clients can make the hub do. A zero field takes its default.
type Limits struct {
	Clients       int // connections in all; default 20,000
	PerAddress    int // connections from one address; default 5,000 (a proxy is one address)
	Subscriptions int // subscriptions a connection; default 64
	RingBytes     int // bytes of the newest readings in memory; default 16 MiB
	RingReadings  int // the newest readings in memory; default 131,072
	SharedBytes   int // encoded bytes kept for slow clients that want the same; default 16 MiB
	Devices       int // devices with latest values; default 100,000
	CatchUps      int // clients that read the log or history at once, others wait; default 32
	Playbacks     int // playbacks at a speed at once, others are refused; default 64

	Stall     time.Duration // a client that takes nothing for so long is closed; default 60 s
	Heartbeat time.Duration // a quiet client gets a sign of life so often; default 15 s
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Clients:       cmp.Or(l.Clients, 20_000),
		PerAddress:    cmp.Or(l.PerAddress, 5_000),
		Subscriptions: cmp.Or(l.Subscriptions, 64),
		RingBytes:     cmp.Or(l.RingBytes, 16<<20),
		RingReadings:  max(2*stride, cmp.Or(l.RingReadings, 1<<17)),
		SharedBytes:   cmp.Or(l.SharedBytes, 16<<20),
		Devices:       cmp.Or(l.Devices, 100_000),
		CatchUps:      cmp.Or(l.CatchUps, 32),
		Playbacks:     cmp.Or(l.Playbacks, 64),
		Stall:         cmp.Or(l.Stall, 60*time.Second),
		Heartbeat:     cmp.Or(l.Heartbeat, 15*time.Second),
	}
}

// Events are called when something happens; nil fields are ignored. They are
// called from the hub's goroutines and must not block.
type Events struct {
	// Appended: records were read from the log; malformed are not readings and
	// were left out.
	Appended func(records, malformed int)
	// Round: readings were offered to live subscriptions; took is its cost.
	Round func(readings, subscriptions int, took time.Duration)
	// Connected and Closed: a client came and went. kind is ws or sse.
	Connected func(kind string)
	Closed    func(kind string, reason Reason)
	// Lagging: a live subscription does not keep up; it catches up by itself.
	Lagging func()
	// Skipped: so many readings were not sent to a client that was too slow.
	Skipped func(count uint64)
	// Gap: a client's cursor was gone.
	Gap func()
	// Refused: a limit was reached; its name is that of the field of Limits.
	Refused func(limit string)
}

func (e *Events) appended(records, malformed int) {
	if e.Appended != nil {
		e.Appended(records, malformed)
	}
}

func (e *Events) round(readings, subscriptions int, took time.Duration) {
	if e.Round != nil {
		e.Round(readings, subscriptions, took)
	}
}

func (e *Events) connected(kind string) {
	if e.Connected != nil {
		e.Connected(kind)
	}
}

func (e *Events) closed(kind string, reason Reason) {
	if e.Closed != nil {
		e.Closed(kind, reason)
	}
}

func (e *Events) lagging() {
	if e.Lagging != nil {
		e.Lagging()
	}
}

func (e *Events) skipped(count uint64) {
	if e.Skipped != nil {
		e.Skipped(count)
	}
}

func (e *Events) gap() {
	if e.Gap != nil {
		e.Gap()
	}
}

func (e *Events) refused(limit string) {
	if e.Refused != nil {
		e.Refused(limit)
	}
}
