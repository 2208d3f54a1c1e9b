package format

// cache keeps one copy of each short string that comes again and again, so that
// decoding it once more allocates nothing. It holds at most one string a slot:
// a sender that invents names costs others an allocation, never memory.
type cache struct {
	slots [512]string
}

// longest is the length up to which strings are kept.
const longest = 64

// text is string(b), from the cache if it is there.
func (c *cache) text(b []byte) string {
	if len(b) > longest {
		return string(b)
	}
	h := uint32(2166136261) // FNV-1a
	for _, x := range b {
		h = (h ^ uint32(x)) * 16777619
	}
	slot := &c.slots[(h^h>>15)%uint32(len(c.slots))]
	if *slot != string(b) {
		*slot = string(b)
	}
	return *slot
}
