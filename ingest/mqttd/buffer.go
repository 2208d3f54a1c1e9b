package mqttd

import "sync"

const largeBuffer = 16 << 10

// pool keeps buffers of one kind for reuse.
type pool struct {
	size int
	free sync.Pool
}

// take answers a buffer of length 0.
func (p *pool) take() []byte {
	if b, ok := p.free.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, p.size)
}

// put takes a buffer back; larger ones than usual are let go.
func (p *pool) put(b []byte) {
	if cap(b) <= 4*p.size {
		p.free.Put(&b)
	}
}
