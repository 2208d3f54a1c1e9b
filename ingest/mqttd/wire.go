package mqttd

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

// reader takes a packet's body apart. The first thing that is missing makes bad
// true, and everything read from then on is zero.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// field is what a two byte length announces.
func (r *reader) field() []byte { return r.bytes(int(r.uint16())) }

// text is a field that must be UTF-8 without U+0000 (MQTT 5 section 1.5.4).
func (r *reader) text() []byte {
	b := r.field()
	if !utf8.Valid(b) || strings.IndexByte(string(b), 0) >= 0 {
		r.bad = true
	}
	return b
}

func (r *reader) varint() int {
	n, size := varint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// varint decodes a variable byte integer (MQTT 5 section 1.5.5). size 0: more
// bytes are needed; -1: it is malformed.
func varint(b []byte) (n, size int) {
	for i := 0; i < 4; i++ {
		if i == len(b) {
			return 0, 0
		}
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			if i > 0 && b[i] == 0 {
				return 0, -1 // not the shortest form [MQTT-1.5.5-1]
			}
			return n, i + 1
		}
	}
	return 0, -1
}

func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// properties walks over a property list, calling each with its identifier; take
// reads the value. A property that stands twice is malformed unless it is the
// user property or repeats allows it (MQTT 5 section 2.2.2.2).
func (r *reader) properties(take func(id int, r *reader) bool) {
	list := reader{rest: r.bytes(r.varint())}
	var seen uint64
	for len(list.rest) > 0 && !list.bad {
		id := list.varint()
		bit := uint64(1) << (id & 63)
		if id > 63 || id != propUser && seen&bit != 0 || !take(id, &list) {
			list.bad = true
		}
		seen |= bit
	}
	r.bad = r.bad || list.bad
}

// Property identifiers (MQTT 5 table 2-4) that this package reads or writes.
const (
	propPayloadFormat   = 1
	propMessageExpiry   = 2
	propContentType     = 3
	propResponseTopic   = 8
	propCorrelationData = 9
	propSubscriptionID  = 11
	propReasonString    = 31
	propTopicAlias      = 35
	propUser            = 38
)

// Topics and filters: more levels than this have no use, and the broker's tree
// walks them one by one.
const maxLevels = 32

// goodTopic says whether name may be the topic of a message: characters that
// are neither wildcards nor controls (MQTT 5 sections 1.5.4 and 4.7).
func goodTopic(name []byte) bool {
	return len(name) > 0 && goodText(name) && strings.Count(string(name), "/") < maxLevels &&
		!strings.ContainsAny(string(name), "+#")
}

// goodFilter says whether f is a topic filter (MQTT 5 sections 4.7.1 and 4.8.2).
func goodFilter(f string) bool {
	if f == "" || !goodText([]byte(f)) || strings.Count(f, "/") >= maxLevels {
		return false
	}
	levels := strings.Split(f, "/")
	if shared(f) {
		if len(levels) < 3 || levels[1] == "" || strings.ContainsAny(levels[1], "+#") || len(levels) == 3 && levels[2] == "" {
			return false
		}
		levels = levels[2:]
	}
	for i, level := range levels {
		last := i == len(levels)-1
		if strings.Contains(level, "#") && (level != "#" || !last) || strings.Contains(level, "+") && level != "+" {
			return false
		}
	}
	return true
}

func shared(filter string) bool { return filter == "$share" || strings.HasPrefix(filter, "$share/") }

// goodText says whether b is UTF-8 without control characters, which the
// standard lets a server refuse.
func goodText(b []byte) bool {
	ascii := true
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || goodRunes(b)
}

func goodRunes(b []byte) bool {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 || r >= 0x80 && r < 0xa0 {
			return false
		}
		b = b[size:]
	}
	return true
}

// appendAck appends a PUBACK, PUBREC or PUBCOMP in its shortest form: reason
// code and reason string only for MQTT 5 clients, and only if there is something
// to say (MQTT 5 section 3.4.2.1).
func appendAck(dst []byte, kind byte, id uint16, a answer) []byte {
	if a.code == 0 {
		return append(dst, kind<<4, 2, byte(id>>8), byte(id))
	}
	if a.text == "" {
		return append(dst, kind<<4, 3, byte(id>>8), byte(id), a.code)
	}
	properties := 3 + len(a.text)
	dst = append(dst, kind<<4)
	dst = appendVarint(dst, 3+1+properties) // one byte of property length: texts are short
	dst = append(dst, byte(id>>8), byte(id), a.code, byte(properties), propReasonString, 0, byte(len(a.text)))
	return append(dst, a.text...)
}

// maxReason bounds a reason string, so that its lengths are single bytes.
const maxReason = 120

// appendDisconnect appends a DISCONNECT for an MQTT 5 client.
func appendDisconnect(dst []byte, why packets.Code) []byte {
	text := clip(why.Reason)
	dst = append(dst, packets.Disconnect<<4, byte(1+1+3+len(text)), why.Code, byte(3+len(text)), propReasonString, 0, byte(len(text)))
	return append(dst, text...)
}

func clip(text string) string {
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
}
