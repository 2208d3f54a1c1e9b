package broadcaster

import "millrace/telemetry"

// sseForm is the form of server-sent events (WHATWG HTML, section 9.2): an
// event without a name is one reading; id is the cursor behind it. A stream has
// one subscription, so its id is not told.
type sseForm struct{}

func (sseForm) Readings(dst []byte, _ string, b *Batch) []byte {
	at := b.Start()
	for i := range b.Items {
		at = b.After(i, at)
		dst = appendID(dst, at)
		dst = append(append(append(dst, "data: "...), b.Items[i].JSON...), "\n\n"...)
	}
	return dst
}

func (sseForm) Event(dst []byte, _ string, e *Event) []byte {
	switch e.Name {
	case EventBeat:
		// An event without data is not dispatched, but its id is remembered.
		return append(appendID(append(dst, ":\n"...), e.Cursor), '\n')
	case EventSnapshot:
		for i, reading := range e.Readings {
			dst = append(dst, "event: snapshot\n"...)
			if i == len(e.Readings)-1 {
				dst = appendID(dst, e.Cursor)
			}
			dst = append(append(append(dst, "data: "...), reading...), "\n\n"...)
		}
		if len(e.Readings) == 0 {
			dst = append(appendID(dst, e.Cursor), '\n')
		}
		return dst
	}
	dst = append(append(append(dst, "event: "...), e.Name...), '\n')
	dst = append(appendID(dst, e.Cursor), "data: {"...)
	return append(e.AppendFields(dst), "}\n\n"...)
}

func appendID(dst []byte, c telemetry.Cursor) []byte {
	if !Placed(c) {
		return dst
	}
	dst, _ = c.AppendText(append(dst, "id: "...))
	return append(dst, '\n')
}
