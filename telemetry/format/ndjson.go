package format

import (
	"bytes"

	"millrace/telemetry"
)

// NDJSON: each line is a JSON object and one reading, by the rules of JSON.
// Lines end with \n or \r\n; empty ones are skipped. A bad line is refused
// alone.

func (d *Decoder) decodeNDJSON(payload []byte) *telemetry.Refusal {
	for len(payload) > 0 {
		n := lineEnd(payload)
		line := trimSpace(payload[:n])
		payload = payload[n:]
		if len(line) == 0 {
			continue
		}
		if refused := d.full(d.next); refused != nil {
			return refused
		}
		if !d.give(line, d.object(line)) {
			return nil
		}
	}
	return nil
}

// lineEnd is the length of b's first line with its \n; all of b if it has none.
func lineEnd(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}
