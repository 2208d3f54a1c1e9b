package broadcaster

import (
	"encoding/json"
	"strconv"
	"time"

	"millrace/telemetry"
)

// Form writes what a subscription receives in the bytes of a transport. A Form
// is a comparable value without state: subscriptions with the same Form, id and
// filter share their bytes. Safe for concurrent use.
type Form interface {
	// Readings appends messages that carry the batch, each with its cursor.
	Readings(dst []byte, id string, b *Batch) []byte
	// Event appends the message of an event.
	Event(dst []byte, id string, e *Event) []byte
}

// Item is one reading of a batch, with its place: Position in the log, or Time
// and Device in the past.
type Item struct {
	JSON []byte // canonical, no line breaks
	telemetry.Position
	Time   time.Time
	Device string
}

// Batch is some readings between two cursors. It is only lent to a Form.
type Batch struct {
	Items    []Item
	From, To telemetry.Cursor // To is behind all items, and behind what did not match
}

// After is the cursor behind Items[i], given the one before it. It changes at
// in place where that is a place in the log.
func (b *Batch) After(i int, at telemetry.Cursor) telemetry.Cursor {
	if i == len(b.Items)-1 {
		return b.To
	}
	item := &b.Items[i]
	if !item.Time.IsZero() {
		return telemetry.Cursor{Time: item.Time, Device: item.Device}
	}
	at.Advance(item.Position)
	return at
}

// Start is a copy of From that [Batch.After] may change.
func (b *Batch) Start() telemetry.Cursor {
	at := b.From.Clone()
	if !b.To.InPast() {
		for len(at.Next) < len(b.To.Next) {
			at.Next = append(at.Next, 0)
		}
	}
	return at
}

// The events of a subscription. The words are part of the interface.
const (
	EventLive     = "live"     // all that was before has been sent; what follows is new
	EventGap      = "gap"      // what lay between From and Cursor is gone from the log
	EventSkipped  = "skipped"  // the client was too slow: Count readings were not sent
	EventSnapshot = "snapshot" // Readings are the latest values of devices, one reading each
	EventEnd      = "end"      // the subscription's end was reached
	EventError    = "error"    // Err; the subscription is over if it was running
	// EventBeat is no message but a sign of life, and carries the cursor of a
	// subscription to which nothing was sent for a while.
	EventBeat = "beat"
)

// Event is what happens to a subscription besides readings.
type Event struct {
	Name     string
	Cursor   telemetry.Cursor // where the subscription is now; zero if it is nowhere
	From     telemetry.Cursor // gap, skipped: where it was
	Count    uint64           // skipped: how many readings
	Readings [][]byte         // snapshot: canonical JSON
	Err      error            // error
}

// AppendFields appends the event's fields as members of a JSON object, without
// braces and without readings.
func (e *Event) AppendFields(dst []byte) []byte {
	dst = append(append(append(dst, `"event":"`...), e.Name...), '"')
	if Placed(e.Cursor) {
		dst, _ = e.Cursor.AppendText(append(dst, `,"cursor":"`...))
		dst = append(dst, '"')
	}
	if Placed(e.From) {
		dst, _ = e.From.AppendText(append(dst, `,"from":"`...))
		dst = append(dst, '"')
	}
	switch {
	case e.Name == EventSkipped:
		dst = strconv.AppendUint(append(dst, `,"count":`...), e.Count, 10)
	case e.Name == EventGap:
		dst = append(dst, `,"detail":"what lay between from and cursor is not in the log any more"`...)
	case e.Err != nil:
		p := telemetry.ProblemOf(e.Err)
		dst = strconv.AppendInt(append(dst, `,"status":`...), int64(p.Status), 10)
		dst = appendMember(appendMember(dst, "title", p.Title), "detail", p.Detail)
	}
	return dst
}

func appendMember(dst []byte, name, text string) []byte {
	quoted, _ := json.Marshal(text) // cannot fail: a string
	return append(append(append(append(dst, `,"`...), name...), `":`...), quoted...)
}

// Placed says whether a cursor is a place at all.
func Placed(c telemetry.Cursor) bool { return c.InPast() || len(c.Next) > 0 }
