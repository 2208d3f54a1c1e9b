package format

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"millrace/telemetry"
)

func TestJSONObject(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		says(t, JSON, payload, Base{}, want)
	}
	const at = `"time":"2026-11-21T22:00:00.000000Z"`
	f(`{"speed":61.2,"on":true,"state":"moving"}`,
		`{"device":"none",`+at+`,"values":{"on":true,"speed":61.2,"state":"moving"}}`)
	f(`{"device":"a","time":"2026-11-21T22:00:00.5+01:00","values":{"x":1}}`,
		`{"device":"a","time":"2026-11-21T21:00:00.500000Z","values":{"x":1}}`)
	f(` {"ts":1763762400,"x":-0.5e1} `, `{"device":"none","time":"2025-11-21T22:00:00.000000Z","values":{"x":-5}}`)
	f(`{"ts":1763762400123,"x":1}`, `{"device":"none","time":"2025-11-21T22:00:00.123000Z","values":{"x":1}}`)
	f(`{"ts":1763762400123456,"x":1}`, `{"device":"none","time":"2025-11-21T22:00:00.123456Z","values":{"x":1}}`)
	f(`{"ts":1763762400123456789,"x":1}`, `{"device":"none","time":"2025-11-21T22:00:00.123456Z","values":{"x":1}}`)
	f(`{"ts":1763762400.25,"x":1}`, `{"device":"none","time":"2025-11-21T22:00:00.250000Z","values":{"x":1}}`)
	f(`{"ts":1.7637624e12,"x":1}`, `{"device":"none","time":"2025-11-21T22:00:00.000000Z","values":{"x":1}}`)
	f(`{"a":{"b":{"c":1},"d":[1,[2],{"e":3}]},"f":null}`,
		`{"device":"none",`+at+`,"values":{"a.b.c":1,"a.d.0":1,"a.d.1.0":2,"a.d.2.e":3}}`)
	f(`{"values":{"device":"x","time":3},"seq":5}`, `{"device":"none",`+at+`,"values":{"device":"x","seq":5,"time":3}}`)
	f(`{"device":null,"time":null,"x":1}`, `{"device":"none",`+at+`,"values":{"x":1}}`)
	f(`{"größe":"ü\u00e9\n","x":9007199254740993}`,
		`{"device":"none",`+at+`,"values":{"größe":"üé\n","x":9007199254740992}}`)
}

func TestJSONArray(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		says(t, JSON, payload, Base{}, want)
	}
	const head = `{"device":"none","time":"2026-11-21T22:00:00.000000Z","values":`
	f(`[]`, ``)
	f(`[{"x":1},{"x":2}]`, head+`{"x":1}}`+"\n"+head+`{"x":2}}`)
	f(`[{"x":1},7,{"x":[1],"x":2}]`, head+`{"x":1}}`+
		"\nrefused malformed: a reading is a JSON object, not a number: send {\"values\":{\"name\":1}}"+
		"\nrefused malformed: duplicate object member name \"x\": send each name once")
	f("[{\"x\":\"\xff\"},{\"x\":1}]", "refused malformed: not JSON: invalid UTF-8 within \"/x\" after offset 6\n"+head+`{"x":1}}`)
	f(`[{"x":1},{"x":2}`, "error malformed: the JSON ends in the middle: send it whole")
	f(`[{"x":1},{"x":2]`, "error malformed: not JSON: …")
	f(`[{"x":1}] {}`, "error malformed: something follows the JSON document …")
	f(`[{"x":1},]`, "error malformed: not JSON: …")
}

func TestJSONRefused(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		says(t, JSON, payload, Base{}, want)
	}
	f(``, "error malformed: the payload is empty: send a JSON object")
	f("\n", "error malformed: the payload is empty: send a JSON object")
	f(`{}`, "check malformed: a reading has no values…")
	f(`{"x":null}`, "check malformed: a reading has no values…")
	f(`7`, "refused malformed: a reading is a JSON object, not a number…")
	f(`{"x":1`, "refused malformed: the JSON ends in the middle: send it whole")
	f(`{"x":1}}`, "refused malformed: something follows the JSON document…")
	f(`{"x":1}{"x":2}`, "refused malformed: something follows…")
	f(`{"x":1,"x":2}`, "check malformed: metric \"x\" stands twice…")
	f(`{"x":{"y":1,"y":2}}`, "refused malformed: duplicate object member name \"y\"…")
	f(`{"x":01}`, "refused malformed: not JSON: …")
	f(`{"x":+1}`, "refused malformed: not JSON: …")
	f(`{"x":.5}`, "refused malformed: not JSON: …")
	f(`{"x":1.}`, "refused malformed: not JSON: …")
	f(`{"x":NaN}`, "refused malformed: not JSON: …")
	f(`{"x":Infinity}`, "refused malformed: not JSON: …")
	f(`{"x":1e999}`, "refused malformed: metric \"x\" is 1e999, beyond the range of a double: send less than 1.8e308")
	f(`{'x':1}`, "refused malformed: not JSON: …")
	f("{\"x\":\"a\nb\"}", "refused malformed: not JSON: …")
	f("\xef\xbb\xbf{\"x\":1}", "refused malformed: not JSON: …")
	f(`{"time":"yesterday","x":1}`, "refused time: time \"yesterday\" is not RFC 3339…")
	f(`{"time":"0001-01-01T00:00:00Z","x":1}`, "refused time: time 0001-01-01 is before 2000…")
	f(`{"time":true,"x":1}`, "refused time: time is a boolean…")
	f(`{"time":1e30,"x":1}`, "refused time: time 1e30 is out of range…")
	f(`{"time":5,"x":1}`, "check time: time 1970-01-01T00:00:05Z is before 2000…")
	f(`{"time":1763762400,"ts":1763762400,"x":1}`, "refused time: the reading has both time and ts: send one")
	f(`{"device":7,"x":1}`, "refused device: device is a number: send the name as a string")
	f(`{"device":"","x":1}`, "refused device: device is empty…")
	f(`{"values":[1],"x":1}`, "refused malformed: values is an array…")
	f(`{"values":{"x":1},"values":{"y":1}}`, "refused malformed: duplicate object member name…")
	f(`{"a.b":1,"a":{"b":2}}`, "check malformed: metric \"a.b\" stands twice…")
	f(`{"":1}`, "check malformed: a metric has an empty name…")
}

func TestJSONLimits(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		says(t, JSON, payload, Base{}, want)
	}
	nest := func(n int) string { return `{"a":` + strings.Repeat(`[`, n) + `1` + strings.Repeat(`]`, n) + `}` }
	f(nest(15), `{"device"…`)
	f(nest(16), "refused limit: more than 16 objects and arrays inside each other…")
	f(nest(20000), "refused limit: more than 16 …")
	f(strings.Repeat(`[`, 20000), "error malformed: …")
	f(strings.Repeat(`{"a":`, 20000), "refused limit: more than 16 …")
	f(`{"`+strings.Repeat("n", 257)+`":1}`, "refused limit: a metric name of 257 bytes is longer than 256")
	f(`{"x":"`+strings.Repeat("n", telemetry.MaxText+1)+`"}`, "refused limit: metric \"x\" is a text of 65537 bytes…")
	f(`{"x":[`+strings.Repeat("1,", telemetry.MaxMetrics)+`1]}`, "refused limit: more than 512 metrics in a reading: split it")
	d := NewDecoder(Config{Limits: Limits{Items: 2}})
	if got := transcript(d, JSON, `[{"x":1},{"x":1},{"x":1}]`, Base{}); got != "error limit: more than 2 items in a message: split it" {
		t.Error(got)
	}
}

func TestNDJSON(t *testing.T) {
	const head = `{"device":"none","time":"2026-11-21T22:00:00.000000Z","values":`
	says(t, NDJSON, "{\"x\":1}\r\n\n  \n{\"x\":2}", Base{}, head+`{"x":1}}`+"\n"+head+`{"x":2}}`)
	says(t, NDJSON, "{\"x\":1}\n{\"x\":\n[]\n{\"x\":2}\n", Base{}, head+`{"x":1}}`+
		"\nrefused malformed: the JSON ends in the middle: send it whole"+
		"\nrefused malformed: a reading is a JSON object, not an array: send {\"values\":{\"name\":1}}\n"+head+`{"x":2}}`)
	says(t, NDJSON, "", Base{}, "")
	d := NewDecoder(Config{Limits: Limits{Items: 1}})
	if got := transcript(d, NDJSON, "{\"x\":1}\n{\"x\":1}", Base{}); got != "error limit: more than 1 items in a message: split it" {
		t.Error(got)
	}
}

func TestRawIsTheItemsBytes(t *testing.T) {
	f := func(form Form, payload string, want ...string) {
		t.Helper()
		i := 0
		err := NewDecoder(Config{}).Decode(form, []byte(payload), Base{}, func(item Item) bool {
			if item.Index != i || string(item.Raw) != want[i] {
				t.Errorf("item %d is %d: %q, not %q", i, item.Index, item.Raw, want[i])
			}
			i++
			return true
		})
		if err != nil || i != len(want) {
			t.Errorf("%d items, %v", i, err)
		}
	}
	f(JSON, ` {"x":1} `, ` {"x":1} `)
	f(JSON, ` [ {"x" : 1} , 7,[ ],{"x":"é"}]`, `{"x" : 1}`, `7`, `[ ]`, `{"x":"é"}`)
	f(NDJSON, "{\"x\":1}\r\n\nnonsense\n", `{"x":1}`, `nonsense`)
	f(Line, "a b=1\r\n# c\nbad\n", `a b=1`, `bad`)
	f(Value, " 5\n", " 5\n")
}

func TestYieldCanStop(t *testing.T) {
	for form, payload := range map[Form]string{
		JSON:   `[{"x":1},{"x":2}`,
		NDJSON: "{}\n{}",
		Line:   "a b=1\na b=1",
		SenML:  `[{"bn":"a:","n":"x","v":1},{"n":"x","v":2},{"n":"x","v":3}`,
	} {
		calls := 0
		err := NewDecoder(Config{}).Decode(form, []byte(payload), Base{}, func(Item) bool { calls++; return false })
		if calls != 1 || err != nil {
			t.Errorf("%s: %d calls after the first answered false, %v", form, calls-1, err)
		}
	}
}

// FuzzQuickEqualsCareful holds the fast path to what the careful one says.
func FuzzQuickEqualsCareful(f *testing.F) {
	for _, seed := range []string{
		`{"speed":61.2,"lat":52.123456,"lon":4.3}`,
		`{"device":"a","time":"2026-11-21T22:00:00Z","values":{"x":-0.0,"y":123456789012345678,"s":"on","b":false}}`,
		` { "ts" : 1763762400123 , "x" : 0.000001 } `,
		`{"ts":0,"x":1}`, `{"ts":1,"time":2,"x":1}`, `{"x":1,"x":2}`, `{"x":1}x`, `{"x":01}`, `{"x":1e5}`,
		`{"values":{}}`, `{"values":{"values":{"x":1}}}`, `{"device":"","x":1}`, `{"x":1,}`, `{,}`, `{"x":-}`,
		`{"x":99999999999999999999999999999999999999999}`, `{"x":0.1234567890123456789}`, `{"x":123456789.1234567}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		payload = trimSpace(payload)
		quick, careful := NewDecoder(Config{}), NewDecoder(Config{})
		if len(payload) == 0 || !quick.quickObject(payload) {
			return
		}
		careful.begin()
		refused := careful.carefulObject(payload)
		if refused != nil && strings.HasPrefix(refused.Detail, "duplicate object member name") {
			// Only Check sees it on the fast path; it must.
			if line(Item{Reading: &quick.reading}, Base{Received: received})[:5] != "check" {
				t.Fatalf("%q: a doubled name went through", payload)
			}
			return
		}
		if refused != nil {
			t.Fatalf("%q: quick took what careful refuses: %v", payload, refused)
		}
		a, b := quick.reading, careful.reading
		if a.Device != b.Device || !a.Time.Equal(b.Time) || fmt.Sprintf("%#v", a.Metrics) != fmt.Sprintf("%#v", b.Metrics) {
			t.Fatalf("%q:\nquick   %v\ncareful %v", payload, a, b)
		}
	})
}

// FuzzJSON: no input breaks a decoder, and what passes Check means the same
// after a round through the canonical form.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"speed":61.2}`, `[{"a":[1,{"b":null}]},{"time":"2026-11-21T22:00:00Z","x":"é\u0000"}]`, `[`, `{"a":{"a":{}}}`, `[{}{}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) { roundTrip(t, NewDecoder(Config{}), JSON, payload, Base{}) })
}

func FuzzNDJSON(f *testing.F) {
	f.Add([]byte("{\"a\":1}\n{\"b\":\n\n{\"c\":true}"))
	f.Fuzz(func(t *testing.T, payload []byte) { roundTrip(t, NewDecoder(Config{}), NDJSON, payload, Base{}) })
}

func roundTrip(t *testing.T, d *Decoder, form Form, payload []byte, base Base) {
	base.Received = received
	kept := bytes.Clone(payload)
	again := NewDecoder(Config{})
	err := d.Decode(form, payload, base, func(i Item) bool {
		if (i.Reading == nil) == (i.Refused == nil) {
			t.Fatalf("item %d is both or neither", i.Index)
		}
		text := line(i, base)
		if text[0] != '{' {
			return true
		}
		if got := transcript(again, JSON, text, base); got != text {
			t.Fatalf("%q became\n%s and then\n%s", payload, text, got)
		}
		return true
	})
	if _, ok := err.(*telemetry.Refusal); err != nil && !ok {
		t.Fatalf("%T is not a refusal", err)
	}
	if !bytes.Equal(kept, payload) {
		t.Fatal("the decoder changed the payload")
	}
}

// typical is the payload the hot path is measured with: 71 bytes.
const typical = `{"ts":1763762400123,"speed":61.25,"lat":52.123456,"lon":4.351233,"n":7}`

func TestNumbersAllocateNothing(t *testing.T) {
	d := NewDecoder(Config{})
	payload := []byte(typical)
	yield := func(Item) bool { return true }
	decode := func() { _ = d.Decode(JSON, payload, Base{}, yield) }
	decode()
	if n := testing.AllocsPerRun(100, decode); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkJSONQuick(b *testing.B) {
	d, payload := NewDecoder(Config{}), []byte(typical)
	yield := func(Item) bool { return true }
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		_ = d.Decode(JSON, payload, Base{}, yield)
	}
}

func BenchmarkJSONCareful(b *testing.B) {
	d, payload := NewDecoder(Config{}), []byte(typical)
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		d.begin()
		_ = d.carefulObject(payload)
	}
}
