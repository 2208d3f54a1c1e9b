package broadcaster

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// With every, a client that did not take a flush and whose place then leaves
// the ring is told of each reading that it was not sent, also of those that had
// waited for the flush.
func TestSkippedCountsWhatWaitedForAFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &rig{t: t, log: newFakeLog(1), limits: Limits{RingReadings: 1024, Stall: time.Hour}}
		g.log.append(0, said("boot", 0, `"a":1`))
		g.start(1)
		defer g.stop()
		early, earlyLink := g.connect()
		if err := early.Subscribe("a", query(t, "device=truck&every=10s")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for i := range 6 { // the first is flushed at once, the others wait
			g.log.append(0, said("truck", 1+i, `"a":1`))
			time.Sleep(time.Second)
		}
		late, lateLink := g.connect() // joins between two flushes
		if err := late.Subscribe("a", query(t, "device=truck&every=10s")); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			g.log.append(0, said("truck", 10+i, `"a":1`))
		}
		for _, c := range []*Client{early, late} {
			c.out.link.(*fakeLink).block()
			c.Send([]byte("pong\n")) // now the flush is refused
		}
		time.Sleep(10 * time.Second)
		for i := range 3000 {
			g.log.append(0, said("other", i, `"a":1`))
		}
		time.Sleep(time.Second)
		earlyLink.unblock()
		lateLink.unblock()
		time.Sleep(time.Second)
		for link, want := range map[*fakeLink]string{earlyLink: "skipped 7\n", lateLink: "skipped 2\n"} {
			if got := link.take(); !strings.Contains(got, want) {
				t.Errorf("received\n%swithout %s", got, want)
			}
		}
	})
}
