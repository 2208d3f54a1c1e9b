package broadcaster

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/telemetry"
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

// More clients than may read at once resume and do not read: others that do are
// not kept waiting. Once the slow ones read, they miss nothing either.
func TestSlowResumersDoNotStarveOthers(t *testing.T) {
	const readings = 3600
	starts := map[string]telemetry.Cursor{
		"log":     {Log: 7, Next: []int64{0}},
		"history": {Time: time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)},
	}
	for name, from := range starts {
		for _, until := range []telemetry.Cursor{{}, {Log: 7, Next: []int64{readings}}} {
			if name == "history" && Placed(until) {
				continue
			}
			t.Run(fmt.Sprint(name, " to ", place(until)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { starve(t, readings, Query{From: from, Until: until}) })
			})
		}
	}
}

func starve(t *testing.T, readings int, q Query) {
	g := &rig{t: t, log: newFakeLog(1), limits: Limits{RingReadings: 1024, CatchUps: 2, Stall: time.Hour}}
	for i := range readings {
		g.log.append(0, said("truck", i, fmt.Sprintf(`"n":%d`, i)))
	}
	if q.From.InPast() {
		g.history = &fakeHistory{}
		g.history.store(g.log)
	}
	g.start(1)
	defer g.stop()
	var links []*fakeLink
	for i := range 4 {
		c, link := g.connect()
		if i < 3 {
			link.block()
		}
		links = append(links, link)
		if err := c.Subscribe("a", q); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	if n := strings.Count(links[3].take(), `"n":`); n != readings {
		t.Errorf("beside slow clients another received %d readings of %d", n, readings)
	}
	for i, link := range links[:3] {
		link.unblock()
		time.Sleep(time.Second)
		got := link.take()
		if n := strings.Count(got, `"n":`); n != readings {
			t.Errorf("slow client %d received %d readings of %d", i, n, readings)
		}
	}
}
