package format

import (
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func TestSenMLJSON(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		says(t, SenML, payload, Base{}, want)
	}
	const noTime = `"time":"2026-11-21T22:00:00.000000Z"`
	// RFC 8428 sections 5.1.1 to 5.1.3
	f(`[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]`,
		`{"device":"urn:dev:ow:10e2073a01080063",`+noTime+`,"values":{"value":23.1}}`)
	f(`[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]`,
		`{"device":"urn:dev:ow:10e2073a01080063",`+noTime+`,"values":{"current":1.2,"voltage":120.1}}`)
	f(`[{"bn":"a:","bt":1.5e9,"bu":"A","bver":5,"n":"v","u":"V","v":120.1},{"n":"i","t":-1,"v":1.3},{"n":"j","t":-1,"v":1.4}]`,
		`{"device":"a","time":"2017-07-14T02:40:00.000000Z","values":{"v":120.1}}`+"\n"+
			`{"device":"a","time":"2017-07-14T02:39:59.000000Z","values":{"i":1.3,"j":1.4}}`)
	f(`[{"bn":"a_","n":"on","vb":true},{"n":"s","vs":"x\ny"},{"n":"d","vd":"aGkg"}]`,
		`{"device":"a",`+noTime+`,"values":{"d":"aGkg","on":true,"s":"x\ny"}}`)
	f(`[{"bn":"a:","n":"x","t":-2.5,"v":1}]`, `{"device":"a","time":"2026-11-21T21:59:57.500000Z","values":{"x":1}}`)
	f(`[{"bn":"a:","bv":20,"bs":100,"n":"x","v":1,"s":5},{"n":"y"}]`,
		`{"device":"a",`+noTime+`,"values":{"x":21,"x.sum":105,"y":20,"y.sum":100}}`)
	f(`[{"bn":"a:"},{"n":"x","v":1},{"n":"x","v":2}]`,
		`{"device":"a",`+noTime+`,"values":{"x":1}}`+"\n"+`{"device":"a",`+noTime+`,"values":{"x":2}}`)
	f(`[{"n":"a/x","v":1,"unknown":[{}]}]`, `{"device":"a",`+noTime+`,"values":{"x":1}}`)
	f(`[]`, ``)
	says(t, SenML, `[{"n":"x","v":1}]`, Base{Device: "d"}, `{"device":"none",`+noTime+`,"values":{"x":1}}`)
}

func TestSenMLRefused(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		says(t, SenML, payload, Base{}, want)
	}
	const x = `{"device":"a","time":"2026-11-21T22:00:00.000000Z","values":{"x":1}}`
	f(`[{"bn":"a:","n":"x","v":1},{"n":"y"},{"n":"z","v":1,"vs":""}]`, x+
		"\nrefused malformed: SenML record \"y\" has no value: send v, vs, vb, vd or s"+
		"\nrefused malformed: SenML record 2 has more than one value: send one of v, vs, vb, vd")
	f(`[{"bn":"a:","n":"x","v":1},{"n":"y","t":1e300,"v":1}]`, x+"\nrefused time: SenML time 1e+300 is out of range…")
	f(`[{"v":1,"n":""}]`, "refused malformed: SenML record 0 has no usable name…")
	f(`[{"bn":"a:","bv":1e308,"n":"x","v":1e308}]`, "refused malformed: metric \"x\" is not a finite number…")
	f(`{"n":"x","v":1}`, "error malformed: a SenML pack is a JSON array, not an object")
	f(``, "error malformed: the JSON ends in the middle…")
	f(`[{"n":"x","v":1}`, "error malformed: the JSON ends in the middle…")
	f(`[{"n":"x","v":1}]1`, "error malformed: something follows…")
	f(`[7]`, "error malformed: a SenML record is an object, not a number")
	f(`[{"n":7,"v":1}]`, "error malformed: SenML label n is a number: send a string")
	f(`[{"n":"x","v":"1"}]`, "error malformed: SenML label v is a string: send a number")
	f(`[{"n":"x","vb":1}]`, "error malformed: SenML label vb is a number: send a boolean")
	f(`[{"n":"x","v":1e999}]`, "error malformed: SenML label v is 1e999, beyond the range…")
	f(`[{"bver":11,"n":"x","v":1}]`, "error malformed: SenML version 11 is newer than 10…")
	f(`[{"n":"x","v":1,"new_":1}]`, "error malformed: SenML label \"new_\" must be understood…")
	f(`[{"n":"x","n":"x","v":1}]`, "error malformed: duplicate object member name…")
	d := NewDecoder(Config{Limits: Limits{Items: 1}})
	if got := transcript(d, SenML, `[{"n":"a","v":1},{"n":"b","v":1}]`, Base{}); got != "error limit: more than 1 items in a message: split it" {
		t.Error(got)
	}
}

// encode is CBOR as a device would write it.
func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type m = map[any]any

func TestSenMLCBOR(t *testing.T) {
	f := func(v any, want string) {
		t.Helper()
		says(t, SenMLCBOR, encode(t, v), Base{}, want)
	}
	const head = `{"device":"a","time":"2017-07-14T02:40:00.000000Z","values":`
	f([]m{{-2: "a:", -3: 1.5e9, 0: "x", 2: 1.5}, {0: "y", 4: true}, {0: "z", 3: "s", 1: "u"}, {0: "d", 8: []byte("hi!")}},
		head+`{"d":"aGkh","x":1.5,"y":true,"z":"s"}}`)
	f([]m{{-2: "a:", -3: 1500000000, 0: "x", 2: cbor.Tag{Number: 4, Content: []int{-2, 2315}}}}, head+`{"x":23.15}}`)
	f([]m{{-2: "a:", -3: 1500000000, 0: "x", 2: -7, "ignored": 1, 99: 1}}, head+`{"x":-7}}`)
	f([]m{}, ``)
	f([]m{{-1: 11}}, "error malformed: SenML version 11 …")
	f([]m{{"new_": 1}}, "error malformed: SenML label \"new_\" …")
	f([]m{{0: 5, 2: 1}}, "error malformed: SenML label n holds a CBOR uint64")
	f([]m{{0: "x", 2: "1"}}, "error malformed: SenML label v is a CBOR string: send a number")
	f([]int{1}, "error malformed: record 0 is not a CBOR map…")
	f(5, "error malformed: a SenML pack is a CBOR array…")
	g := func(payload, want string) {
		t.Helper()
		says(t, SenMLCBOR, payload, Base{}, want)
	}
	g("", "error malformed: a SenML pack is a CBOR array…")
	g("\x9f\xa3\x21\x62a:\x22\x1a\x59\x68\x2f\x00\x00\x61x\xff", "refused malformed: SenML record \"x\" has no value…")
	g("\x9f\xa4\x21\x62a:\x22\x1a\x59\x68\x2f\x00\x00\x61x\x02\x01\xff", head+`{"x":1}}`)
	g("\x98\x01\xa2\x00\x63a/x\x02\x01", `{"device":"a","time":"2026-11-21T22:00:00.000000Z","values":{"x":1}}`)
	g("\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "error malformed: a SenML pack is a CBOR array…")
	g("\x9b\x00\x00\xff\xff\xff\xff\xff\xff", "error malformed: record 0 …")
	g("\x80\x00", "error malformed: 1 bytes follow the SenML pack…")
	g("\x81\xa2\x00\x61x\x00\x61y", "error malformed: record 0 is not a CBOR map…")
	g("\x81\xa2\x00\x61x\x02\xf9\x7e\x00", "refused malformed: metric \"x\" is not a finite number…") // NaN
}

func FuzzSenML(f *testing.F) {
	for _, seed := range []string{
		`[{"bn":"a:","bt":1.5e9,"bv":1,"bs":2,"n":"x","v":1,"s":3,"t":-5},{"n":"y","vs":"z"}]`,
		`[{"n":"a/x","vb":false},{"bn":"","n":"","vd":""}]`, `[{"t":-1e11,"n":"x","v":0}]`, `[{`,
	} {
		f.Add([]byte(seed), "d")
	}
	f.Fuzz(func(t *testing.T, payload []byte, device string) {
		roundTrip(t, NewDecoder(Config{}), SenML, payload, Base{Device: device})
	})
}

func FuzzSenMLCBOR(f *testing.F) {
	f.Add([]byte(encode(f, []m{{-2: "a:", -3: 1.5e9, 0: "x", 2: 1.5}, {0: "y", 4: true}, {0: "d", 8: []byte("hi")}})))
	f.Add([]byte(encode(f, []m{{0: "x", 2: cbor.Tag{Number: 4, Content: []int{-2, 2315}}, "_": nil}})))
	f.Add([]byte("\x9f\xa2\x00\x61x\x02\x01\xff"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		roundTrip(t, NewDecoder(Config{}), SenMLCBOR, payload, Base{})
	})
}
