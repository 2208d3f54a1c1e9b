package ws

import (
	"encoding/binary"
	"encoding/json"

	"millrace/broadcaster"
	"millrace/telemetry"
)

// form writes messages as whole frames. It is comparable, so that the hub can
// share bytes.
type form struct {
	most int // bytes of a message that has more than one reading
}

// Frame bits and opcodes of RFC 6455 section 5.2.
const (
	final     = 0x80
	text      = 0x1
	closing   = 0x8
	ping      = 0x9
	pong      = 0xA
	inControl = 125 // the most a control frame holds
)

// appendHeader appends the header of an unmasked frame.
func appendHeader(dst []byte, opcode byte, size int) []byte {
	switch {
	case size <= 125:
		return append(dst, final|opcode, byte(size))
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, final|opcode, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, final|opcode, 127), uint64(size))
}

func control(opcode byte, payload []byte) []byte {
	payload = payload[:min(len(payload), inControl)]
	return append(appendHeader(nil, opcode, len(payload)), payload...)
}

// Readings writes as few messages as their bound allows.
func (f form) Readings(dst []byte, id string, b *broadcaster.Batch) []byte {
	if len(b.Items) == 0 {
		return message(dst, prefix(id, b.To), nil)
	}
	at := b.Start()
	jsons := make([][]byte, 0, len(b.Items))
	size := 0
	for i := range b.Items {
		at = b.After(i, at)
		jsons = append(jsons, b.Items[i].JSON)
		size += len(b.Items[i].JSON) + 1
		if i == len(b.Items)-1 || size+len(b.Items[i+1].JSON) > f.most {
			dst = message(dst, prefix(id, at), jsons)
			jsons, size = jsons[:0], 0
		}
	}
	return dst
}

// prefix is the beginning of a message of readings.
func prefix(id string, cursor telemetry.Cursor) []byte {
	b := append(begin(id), `"cursor":"`...)
	b, _ = cursor.AppendText(b)
	return append(b, '"')
}

// begin opens a message's object; members follow.
func begin(id string) []byte {
	quoted, _ := json.Marshal(id) // cannot fail: a string
	b := append(make([]byte, 0, 128), `{"id":`...)
	return append(append(b, quoted...), ',')
}

// message appends a frame: the members in head, then the readings.
func message(dst, head []byte, readings [][]byte) []byte {
	const open, end = `,"readings":[`, `]}`
	size := len(head) + len(open) + len(end) + max(0, len(readings)-1)
	for _, r := range readings {
		size += len(r)
	}
	dst = appendHeader(dst, text, size)
	dst = append(append(dst, head...), open...)
	for i, r := range readings {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, r...)
	}
	return append(dst, end...)
}

// Event writes an event; a heartbeat is a message without readings.
func (f form) Event(dst []byte, id string, e *broadcaster.Event) []byte {
	switch e.Name {
	case broadcaster.EventBeat:
		if !broadcaster.Placed(e.Cursor) {
			return append(dst, control(ping, nil)...)
		}
		return message(dst, prefix(id, e.Cursor), nil)
	case broadcaster.EventSnapshot:
		return f.snapshot(dst, id, e)
	}
	body := append(e.AppendFields(begin(id)), '}')
	return append(appendHeader(dst, text, len(body)), body...)
}

func (f form) snapshot(dst []byte, id string, e *broadcaster.Event) []byte {
	rest := e.Readings
	for {
		n, size := 0, 0
		for n < len(rest) && (n == 0 || size+len(rest[n]) <= f.most) {
			size += len(rest[n]) + 1
			n++
		}
		part := broadcaster.Event{Name: e.Name}
		if n == len(rest) {
			part.Cursor = e.Cursor
		}
		dst = message(dst, part.AppendFields(begin(id)), rest[:n])
		if rest = rest[n:]; len(rest) == 0 {
			return dst
		}
	}
}

// bye is the close frame of a reason.
func bye(r broadcaster.Reason) []byte {
	if r == broadcaster.Broken {
		return nil
	}
	return control(closing, append(binary.BigEndian.AppendUint16(nil, uint16(r)), r.Text()...))
}
