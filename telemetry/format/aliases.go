package format

import "sync"

// Aliases remembers what Sparkplug births defined: for each edge node, and for
// each device behind it, the names and datatypes that DATA messages then leave
// out. It is safe for concurrent use. Its size is bounded: when it is full, the
// node that was born first is forgotten, and its next DATA is refused with the
// advice to ask for a rebirth.
type Aliases struct {
	mu    sync.Mutex // protects all below
	nodes map[string]*edgeNode
	order []string // edge nodes by birth, oldest first
	room  int      // metrics that may still be defined
}

type edgeNode struct{}

// NewAliases is an empty table for at most metrics definitions in all; 0 is a
// million, some 100 MB when full.
func NewAliases(metrics int) *Aliases {
	if metrics <= 0 {
		metrics = 1_000_000
	}
	return &Aliases{nodes: make(map[string]*edgeNode), room: metrics}
}
