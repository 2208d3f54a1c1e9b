package broadcaster

import (
	"sync"

	"millrace/telemetry"
)

// chunks keeps what was encoded for clients that are catching up, so that
// thousands of slow clients that want the same cost one encoding: without it,
// more load means less delivered. The oldest bytes go first.
type chunks struct {
	most int // bytes

	mu    sync.Mutex // protects what follows
	size  int
	known map[chunkKey]*chunk
	order []chunkKey
}

type chunkKey struct {
	group    *group
	from, to uint64
}

// chunk is a frame that is encoded once.
type chunk struct {
	once  sync.Once
	frame *frame // nil: the ring has lost its beginning
}

func newChunks(most int) *chunks {
	return &chunks{most: most, known: make(map[chunkKey]*chunk)}
}

// frame is the group's frame of [from, to), nil if from has left the ring.
func (c *chunks) frame(r *ring, g *group, from, to uint64) *frame {
	key := chunkKey{g, from, to}
	c.mu.Lock()
	k := c.known[key]
	if k == nil {
		k = &chunk{}
		c.known[key] = k
		c.order = append(c.order, key)
	}
	c.mu.Unlock()
	k.once.Do(func() {
		k.frame = encodeFrame(r, g, from, to)
		c.account(k.frame)
	})
	return k.frame
}

// account adds a new frame's bytes and lets the oldest go.
func (c *chunks) account(f *frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size += f.cost()
	for c.size > c.most && len(c.order) > 1 {
		if k := c.known[c.order[0]]; k != nil {
			c.size -= k.frame.cost()
			delete(c.known, c.order[0])
		}
		c.order = c.order[1:]
	}
}

// cost is what a frame takes in memory.
func (f *frame) cost() int {
	const overhead = 512 // key, chunk, frame and two cursors
	if f == nil {
		return overhead
	}
	return overhead + len(f.bytes)
}

func encodeFrame(r *ring, g *group, from, to uint64) *frame {
	entries, before, after, ok := r.read(nil, from, to)
	if !ok {
		return nil
	}
	f := &frame{from: from, to: to, before: before, after: after}
	var scratch telemetry.Reading
	items := picker{&g.query, nil, &scratch}.pick(make([]Item, 0, len(entries)), entries)
	if f.matched = len(items); f.matched > 0 {
		batch := Batch{Items: items, From: before, To: after}
		f.bytes = g.key.form.Readings(make([]byte, 0, sizeOf(items)), g.key.id, &batch)
	}
	return f
}
