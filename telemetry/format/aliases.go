package format

import (
	"slices"
	"sync"
)

// Definition is what a Sparkplug birth says of a metric, and what the DATA
// messages behind it may leave out.
type Definition struct {
	Name     string
	Alias    uint64
	HasAlias bool
	Type     uint32 // Sparkplug's datatype; 0: not said
}

// Aliases remembers what Sparkplug births defined: for each edge node, and for
// each device behind it, the names and datatypes that DATA messages leave out.
// It is safe for concurrent use. Its size is bounded: when it is full, what was
// born first is forgotten, and its next DATA is refused with the advice to ask
// for a rebirth.
type Aliases struct {
	mu     sync.Mutex // protects all below
	births map[birthplace]*births
	order  []birthplace // oldest birth first
	size   int          // definitions in all births
	most   int
}

// birthplace is an edge node ("group/edge"), or a device behind it.
type birthplace struct{ node, device string }

type births struct {
	byAlias map[uint64]Definition
	byName  map[string]Definition
}

// NewAliases is an empty table for at most so many definitions in all; 0 is a
// million, some hundreds of MB when full.
func NewAliases(most int) *Aliases {
	if most <= 0 {
		most = 1_000_000
	}
	return &Aliases{births: make(map[birthplace]*births), most: most}
}

// Born takes a birth certificate down: it replaces the one there was. The birth
// of the node itself (device "") ends those of its devices, which must be born
// again (Sparkplug 3.0 section 6.4.19).
func (a *Aliases) Born(node, device string, definitions []Definition) {
	b := &births{
		byAlias: make(map[uint64]Definition, len(definitions)),
		byName:  make(map[string]Definition, len(definitions)),
	}
	for _, d := range definitions {
		b.byName[d.Name] = d
		if d.HasAlias {
			b.byAlias[d.Alias] = d
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetLocked(node, device)
	at := birthplace{node, device}
	a.births[at] = b
	a.order = append(a.order, at)
	a.size += len(b.byName)
	for a.size > a.most && len(a.order) > 1 {
		a.dropLocked(a.order[0])
	}
}

// Died forgets the births of the device, or of the node and all its devices.
func (a *Aliases) Died(node, device string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetLocked(node, device)
}

// ByAlias is what the birth of the node or device defined for the alias.
func (a *Aliases) ByAlias(node, device string, alias uint64) (Definition, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.births[birthplace{node, device}]; b != nil {
		d, ok := b.byAlias[alias]
		return d, ok
	}
	return Definition{}, false
}

// ByName is what the birth of the node or device defined for the name.
func (a *Aliases) ByName(node, device, name string) (Definition, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.births[birthplace{node, device}]; b != nil {
		d, ok := b.byName[name]
		return d, ok
	}
	return Definition{}, false
}

func (a *Aliases) forgetLocked(node, device string) {
	if device != "" {
		a.dropLocked(birthplace{node, device})
		return
	}
	for _, at := range slices.Clone(a.order) {
		if at.node == node {
			a.dropLocked(at)
		}
	}
}

func (a *Aliases) dropLocked(at birthplace) {
	b := a.births[at]
	if b == nil {
		return
	}
	a.size -= len(b.byName)
	delete(a.births, at)
	if i := slices.Index(a.order, at); i >= 0 {
		a.order = slices.Delete(a.order, i, i+1)
	}
}
