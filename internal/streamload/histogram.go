package streamload

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets of a sixteenth of a power of two of
// microseconds. The zero Histogram is empty. Not safe for concurrent use.
type Histogram struct {
	buckets [64 * 16]int64
	total   int64
}

// Add counts n durations of d; a negative one is zero.
func (h *Histogram) Add(d time.Duration, n int64) {
	h.buckets[bucket(uint64(max(0, d.Microseconds())))] += n
	h.total += n
}

func bucket(us uint64) int {
	if us < 16 {
		return int(us)
	}
	shift := bits.Len64(us) - 5
	return (shift+1)*16 + int(us>>shift&15)
}

// least is the least number of microseconds of a bucket.
func least(b int) uint64 {
	if b < 16 {
		return uint64(b)
	}
	return uint64(16+b%16) << (b/16 - 1)
}

// Quantile is the duration below which the share q (0 to 1) of all lies, from
// above, within a sixteenth.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := int64(q * float64(h.total))
	var seen int64
	for b, n := range h.buckets {
		if seen += n; n > 0 && seen >= rank {
			return time.Duration(least(b+1)) * time.Microsecond
		}
	}
	return 0
}

// Total is how many durations were counted.
func (h *Histogram) Total() int64 { return h.total }

func (h *Histogram) merge(o *Histogram) {
	for b, n := range o.buckets {
		h.buckets[b] += n
	}
	h.total += o.total
}
