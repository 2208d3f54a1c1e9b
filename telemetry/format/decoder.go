package format

// Decoder decodes payloads one after the other and keeps what it can reuse:
// the reading, the names it has seen, scratch space. It is not safe for
// concurrent use; a pool of them is.
type Decoder struct {
	config Config
}

// NewDecoder makes a decoder.
func NewDecoder(config Config) *Decoder {
	config.Limits = config.Limits.orDefault()
	return &Decoder{config: config}
}

// Decode calls yield for each item of the payload, until yield answers false.
// An error is a *[telemetry.Refusal] of the whole payload: what was yielded
// before must then be discarded, as if it had never been said. The payload is
// not kept and not changed.
func (d *Decoder) Decode(form Form, payload []byte, base Base, yield func(Item) bool) error {
	return nil
}
