package stream_test

import (
	"context"
	"sync"
	"testing"

	"millrace/stream"
)

// overtaken is a handler whose claim waits while the last owner keeps what has
// just been appended.
type overtaken struct {
	shelf
	append func()
}

func (o *overtaken) Claim(ctx context.Context, log uint64, partitions []int32) ([]int64, error) {
	o.append()
	return o.shelf.Claim(ctx, log, partitions)
}

// The log's end from before the claim says nothing about offsets from behind it.
func exerciseOvertaken(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	tb := newTable()
	o := &overtaken{shelf: shelf{table: tb}}
	o.append = sync.OnceFunc(func() {
		fill(t, p, 10, "a")
		_, next, err := l.Readings().Bounds(t.Context())
		if err != nil {
			t.Error(err)
		}
		for partition, at := range next.Next {
			tb.next[int32(partition)] = at
		}
	})
	claims := make(chan struct{}, 100)
	o.claimed = func([]int32) { claims <- struct{}{} }
	consume(t, l.Readings(), group(c), o, stream.ConsumerConfig{})
	<-claims
	fill(t, p, 5, "b")
	tb.wait(t, "what came behind the claim", has(5))
}
