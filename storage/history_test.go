package storage_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/storage"
	"millrace/telemetry"
)

// exerciseHistory: what is replayed is what was said, in order, with no record
// of the log missing or twice where it goes on.
func exerciseHistory(t *testing.T, fresh func(*testing.T) *bundle) {
	b := fresh(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	h := b.sink(0, 1)
	var said []string
	for s := range 300 {
		for _, device := range []string{"truck-1", "truck-2", "van-1"} {
			p := int32(len(device) % 2)
			r := reading(t, fmt.Sprintf(`%s %d a=%d b=true c="x%d" lat=%d lon=4`, device, s*977, s, s, rnd.IntN(90)))
			said = append(said, string(r.AppendJSON(nil)))
			b.append(p, r)
		}
	}
	b.handle(h, b.said...)
	unstored := b.say(1, "truck-9 1 a=1")
	slices.SortFunc(said, func(x, y string) int { return strings.Compare(byTime(x), byTime(y)) })
	t.Run("all", func(t *testing.T) {
		equal(t, "replay", strings.Join(b.replay(telemetry.Span{}), "\n"), strings.Join(said, "\n"))
	})
	t.Run("resume at every cursor", func(t *testing.T) { resumes(t, b, said) })
	t.Run("filters", func(t *testing.T) { filters(t, b, said) })
	t.Run("seam", func(t *testing.T) {
		cursor, err := storage.NewHistory(b.db).Replay(t.Context(), logID, telemetry.Span{}, func(*telemetry.Reading) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.said {
			if cursor.Seen(r.Position) == (r.Position == unstored.Position) {
				t.Errorf("%v: stored and in the cursor disagree", r.Position)
			}
		}
		if cursor.Log != logID || len(cursor.Next) != 2 {
			t.Errorf("cursor %+v", cursor)
		}
		cursor, err = storage.NewHistory(b.db).Replay(t.Context(), 1, telemetry.Span{To: midnight}, func(*telemetry.Reading) error { return nil })
		if err != nil || cursor.Log != 1 || len(cursor.Next) != 0 {
			t.Errorf("cursor of a log never read: %+v, %v", cursor, err)
		}
	})
}

// byTime is a canonical reading's place in (time, device).
func byTime(canonical string) string {
	_, rest, _ := strings.Cut(canonical, `"time":"`)
	return rest[:27] + canonical
}

func (b *bundle) replay(span telemetry.Span) []string {
	b.t.Helper()
	var got []string
	_, err := storage.NewHistory(b.db).Replay(b.t.Context(), logID, span, func(r *telemetry.Reading) error {
		got = append(got, string(r.AppendJSON(nil)))
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

func resumes(t *testing.T, b *bundle, said []string) {
	for i := 0; i < len(said); i += 101 {
		var r telemetry.Reading
		if err := telemetry.ParseReading([]byte(said[i]), &r); err != nil {
			t.Fatal(err)
		}
		got := b.replay(telemetry.Span{After: telemetry.Cursor{Time: r.Time, Device: r.Device}})
		equal(t, "behind "+said[i], strings.Join(got, "\n"), strings.Join(said[i+1:], "\n"))
		got = b.replay(telemetry.Span{To: r.Time})
		from := slices.IndexFunc(said, func(s string) bool { return byTime(s)[:27] == byTime(said[i])[:27] })
		equal(t, "before "+said[i], strings.Join(got, "\n"), strings.Join(said[:from], "\n"))
	}
}

func filters(t *testing.T, b *bundle, said []string) {
	for _, query := range []string{
		"device=truck-*", "device=van-1&device=truck-2", "metric=a&metric=zzz", "metric=zzz",
		"metric=c&where=a>150", "where=b=true&device=?an-1", "bbox=0,10,5,40&metric=a", "device=truck_1",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := telemetry.ParseFilter(values)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, line := range said {
			var r telemetry.Reading
			if err := telemetry.ParseReading([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if f.Project(&r) {
				want = append(want, string(r.AppendJSON(nil)))
			}
		}
		equal(t, query, strings.Join(b.replay(telemetry.Span{Filter: f}), "\n"), strings.Join(want, "\n"))
	}
}

// exerciseLatest: the newest value of each metric, whenever it was said.
func exerciseLatest(t *testing.T, fresh func(*testing.T) *bundle) {
	b := fresh(t)
	b.handle(
		b.sink(0),
		b.say(0, "truck-1 -260000 old=1 speed=1"),
		b.say(0, `truck-1 20 speed=2 state="on"`),
		b.say(0, "truck-1 10 speed=3 fuel=9"),
		b.say(0, "truck-2 -90000 speed=7 moving=false"),
	)
	var got []string
	cursor, err := storage.NewHistory(b.db).Latest(t.Context(), logID, func(r *telemetry.Reading) error {
		got = append(got, string(r.AppendJSON(nil)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "latest", strings.Join(got, "\n"), `{"device":"truck-1","time":"2026-11-21T00:00:20.000000Z","values":{"fuel":9,"old":1,"speed":2,"state":"on"}}
{"device":"truck-2","time":"`+midnight.Add(-25*time.Hour).Format("2006-01-02T15:04:05.000000Z")+`","values":{"moving":false,"speed":7}}`)
	if len(cursor.Next) != 1 || cursor.Next[0] != 4 {
		t.Errorf("cursor %+v", cursor)
	}
}
