package telemetry

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Cursor is a place in all that was ever said. It is one of two things:
//
//   - a place in the log: for each partition the offset of the next record to
//     see, and the log it belongs to, so that a cursor into a log that was
//     deleted and made anew is recognised as gone;
//   - a place in the past (Time is not zero): behind the reading of Device at
//     Time, in the order of (time, device) in which history is read. A plain
//     time is that cursor with an empty Device.
//
// Its text form is opaque to clients, URL-safe, and some dozens of bytes.
type Cursor struct {
	Log    uint64  // the topic's identity across deletions and recreations
	Next   []int64 // by partition: the offset of the next record to see
	Time   time.Time
	Device string
}

const (
	cursorInLog  = 1
	cursorInPast = 2
)

// maxPartitions bounds what ParseCursor allocates for a cursor from outside.
const maxPartitions = 4096

// InPast says whether the cursor is a place in the past.
func (c Cursor) InPast() bool { return !c.Time.IsZero() }

// Clone is a copy that shares nothing.
func (c Cursor) Clone() Cursor {
	c.Next = slices.Clone(c.Next)
	return c
}

// Seen says whether the record at p lies before the cursor.
func (c Cursor) Seen(p Position) bool {
	return int(p.Partition) < len(c.Next) && p.Offset < c.Next[p.Partition]
}

// Advance moves the cursor behind p. The partition must be one of the cursor's.
func (c *Cursor) Advance(p Position) { c.Next[p.Partition] = p.Offset + 1 }

// AppendText appends the cursor's text form. It never fails; the error is
// [encoding.TextAppender]'s.
func (c Cursor) AppendText(dst []byte) ([]byte, error) {
	var space [256]byte
	raw := space[:0]
	if c.InPast() {
		raw = append(raw, cursorInPast)
		raw = binary.BigEndian.AppendUint64(raw, uint64(c.Time.UnixMicro()))
		raw = append(raw, c.Device...)
		return base64.RawURLEncoding.AppendEncode(dst, raw), nil
	}
	raw = append(raw, cursorInLog)
	raw = binary.BigEndian.AppendUint64(raw, c.Log)
	for _, next := range c.Next {
		raw = binary.AppendUvarint(raw, uint64(next))
	}
	return base64.RawURLEncoding.AppendEncode(dst, raw), nil
}

// String is the cursor's text form.
func (c Cursor) String() string {
	b, _ := c.AppendText(nil)
	return string(b)
}

// ParseCursor reads the text form. The error is a *[BadRequest].
func ParseCursor(text string) (Cursor, error) {
	wrong := &BadRequest{"cursor", fmt.Sprintf("%s is not a cursor: use one that a message carried", clip(text))}
	if len(text) > maxPartitions*14 {
		return Cursor{}, wrong
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < 9 {
		return Cursor{}, wrong
	}
	head, rest := binary.BigEndian.Uint64(raw[1:9]), raw[9:]
	c, ok := Cursor{}, false
	switch raw[0] {
	case cursorInLog:
		c.Log = head
		c.Next, ok = parseOffsets(rest)
	case cursorInPast:
		c.Time, c.Device = time.UnixMicro(int64(head)).UTC(), string(rest)
		ok = c.InPast() && (c.Device == "" || CheckDevice(c.Device) == nil)
	}
	if !ok {
		return Cursor{}, wrong
	}
	return c, nil
}

func parseOffsets(raw []byte) ([]int64, bool) {
	var next []int64
	for len(raw) > 0 {
		offset, n := binary.Uvarint(raw)
		shortest := n == 1 || n > 1 && raw[n-1] != 0
		if !shortest || offset > 1<<62 || len(next) == maxPartitions {
			return nil, false
		}
		next = append(next, int64(offset))
		raw = raw[n:]
	}
	return next, len(next) > 0
}
