package streamload

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// However the stream is cut into pieces, each reading is counted once.
func TestScanCountsAcrossPieces(t *testing.T) {
	stream := strings.Repeat(`id: AAAA`+"\n"+`data: {"device":"a","time":"2026-01-01T00:00:00.000000Z","values":{"n":1}}`+"\n\n", 20)
	for size := 1; size < len(stream); size++ {
		var received atomic.Int64
		c := &client{config: &Config{Kind: SSE, Received: &received, Age: ageByTime}}
		for rest := []byte(stream); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			c.scan(bytes.Join([][]byte{c.keep, rest[:min(size, len(rest))]}, nil))
		}
		if c.count != 20 || received.Load() != 20 {
			t.Fatalf("in pieces of %d bytes %d readings are counted, want 20", size, c.count)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for i := range 1000 {
		h.Add(time.Duration(i)*time.Millisecond, 1)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		if got := h.Quantile(q); got < want-time.Millisecond || got > want*17/16 {
			t.Errorf("quantile %v is %v, want %v to a sixteenth more", q, got, want)
		}
	}
	if h.Total() != 1000 {
		t.Errorf("total %d", h.Total())
	}
}

func TestBucketsAreInOrder(t *testing.T) {
	for us := range uint64(1 << 20) {
		if b := bucket(us); us < least(b) || us >= least(b+1) {
			t.Fatalf("%d µs are in bucket %d from %d to %d", us, b, least(b), least(b+1))
		}
	}
}
