package broadcaster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/telemetry"
)

// traveller is a client that comes and goes, on any of the hubs, and notes what
// it has received.
type traveller struct {
	query   string
	client  *Client
	link    *fakeLink
	got     []int  // the number of each reading
	last    string // the last cursor, in lineForm
	skipped bool
}

// note reads what has arrived. cut drops a part of the end, as a connection
// that breaks does.
func (v *traveller) note(t *testing.T, random *rand.Rand, cut bool) {
	t.Helper()
	if v.skipped {
		return
	}
	lines := strings.SplitAfter(v.link.take(), "\n")
	if cut {
		lines = lines[:random.IntN(len(lines)+1)]
	}
	for _, l := range lines {
		cursor, what, ok := strings.Cut(strings.TrimPrefix(l, "a "), "] ")
		if !ok || !strings.HasPrefix(l, "a ") {
			continue
		}
		v.last = cursor + "]"
		_, number, isReading := strings.Cut(what, `"n":`)
		switch {
		case strings.HasPrefix(what, "{") && isReading:
			n, _ := strconv.Atoi(number[:strings.IndexAny(number, ",}")])
			v.got = append(v.got, n)
		case strings.HasPrefix(what, EventSkipped):
			// What was skipped, and all behind it, is had by resuming here.
			v.skipped = true
			return
		case !strings.HasPrefix(what, EventLive) && !strings.HasPrefix(what, "nothing") && !strings.HasPrefix(what, EventBeat):
			t.Fatalf("unexpected event %s", l)
		}
	}
}

func parsePlace(t *testing.T, text string, log uint64) telemetry.Cursor {
	t.Helper()
	c := telemetry.Cursor{Log: log}
	for field := range strings.FieldsSeq(strings.Trim(text, "[]")) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		c.Next = append(c.Next, n)
	}
	return c
}

// A client that comes and goes, with the last cursor it has received, on hubs
// that read the log in different orders, have a small ring and are restarted,
// receives each matching reading exactly once and each device's in order.
func TestEachReadingExactlyOnce(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { exactlyOnce(t, seed) })
		})
	}
}

const (
	partitionsInTest = 3
	devicesInTest    = 7
)

func exactlyOnce(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 2))
	log := newFakeLog(partitionsInTest)
	limits := Limits{RingBytes: 200 + random.IntN(4000), SharedBytes: 4000, CatchUps: 2}
	hubs := []*rig{{t: t, log: log, limits: limits}, {t: t, log: log, limits: limits}}
	for i, g := range hubs {
		g.start(seed*2 + uint64(i))
	}
	travellers := []*traveller{{query: ""}, {query: ""}, {query: "device=d3&device=d5"}, {query: "where=n>100&metric=n"}}
	for _, v := range travellers {
		v.last = fmt.Sprint(make([]int64, partitionsInTest))
	}
	var devices []int // who said each number
	for range 60 {
		for range random.IntN(40) {
			device := random.IntN(devicesInTest)
			log.append(device%partitionsInTest, saidNumber(device, len(devices)))
			devices = append(devices, device)
		}
		wander(t, random, hubs, travellers)
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
	}
	for _, v := range travellers {
		v.arrive(t, random, hubs[0])
		v.check(t, devices)
	}
	for _, g := range hubs {
		g.stop()
	}
}

func saidNumber(device, n int) string {
	return said(fmt.Sprintf("d%d", device), n/10, fmt.Sprintf(`"n":%d,"x":1`, n))
}

// wander lets something happen to somebody.
func wander(t *testing.T, random *rand.Rand, hubs []*rig, travellers []*traveller) {
	t.Helper()
	if random.IntN(15) == 0 {
		g := hubs[random.IntN(len(hubs))]
		for _, v := range travellers {
			if v.client != nil && v.client.hub == g.hub {
				v.disconnect(t, random)
			}
		}
		g.stop()
		g.start(random.Uint64())
		return
	}
	v := travellers[random.IntN(len(travellers))]
	switch {
	case v.client == nil:
		v.connect(t, hubs[random.IntN(len(hubs))])
	case random.IntN(2) == 0:
		v.disconnect(t, random)
	case random.IntN(2) == 0:
		_ = v.client.Pause("a")
		_ = v.client.Resume("a")
	}
}

// arrive lets the traveller receive all that there is.
func (v *traveller) arrive(t *testing.T, random *rand.Rand, g *rig) {
	t.Helper()
	for {
		if v.client == nil {
			v.connect(t, g)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		v.note(t, random, false)
		if !v.skipped {
			return
		}
		v.disconnect(t, random)
	}
}

func (v *traveller) connect(t *testing.T, g *rig) {
	t.Helper()
	q := query(t, v.query)
	q.From = parsePlace(t, v.last, g.log.id)
	v.client, v.link = g.connect()
	if err := v.client.Subscribe("a", q); err != nil {
		t.Fatal(err)
	}
}

// disconnect breaks the connection: some of what was sent is lost with it.
func (v *traveller) disconnect(t *testing.T, random *rand.Rand) {
	t.Helper()
	v.client.Close(Left)
	<-v.client.Done()
	v.note(t, random, true)
	v.client, v.skipped = nil, false
}

// check compares with what was said: devices holds who said each number.
func (v *traveller) check(t *testing.T, devices []int) {
	t.Helper()
	q := query(t, v.query)
	var want []int
	for n, device := range devices {
		var r telemetry.Reading
		if err := telemetry.ParseReading([]byte(saidNumber(device, n)), &r); err != nil {
			t.Fatal(err)
		}
		if q.Filter.Match(&r) {
			want = append(want, n)
		}
	}
	if got := slices.Sorted(slices.Values(v.got)); !slices.Equal(got, want) {
		t.Errorf("%q received %d readings, %d of them different; %d match", v.query, len(v.got), len(slices.Compact(got)), len(want))
	}
	newest := make(map[int]int)
	for _, n := range v.got {
		if device := devices[n]; n < newest[device] {
			t.Errorf("%q received %d of device %d after %d", v.query, n, device, newest[device])
		}
		newest[devices[n]] = n
	}
}
