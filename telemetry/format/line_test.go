package format

import (
	"strings"
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	f := func(payload string, precision time.Duration, want string) {
		t.Helper()
		says(t, Line, payload, Base{Precision: precision}, want)
	}
	const at = `"time":"2025-11-21T22:00:00.000000Z"`
	f("engine,device=truck-7 rpm=2100i,oil=4.1,on=t,s=\"a b\",u=3u 1763762400000000000", 0,
		`{"device":"truck-7",`+at+`,"values":{"engine.oil":4.1,"engine.on":true,"engine.rpm":2100,"engine.s":"a b","engine.u":3}}`)
	f("temperature,device=a value=21.5 1763762400", 0, `{"device":"a",`+at+`,"values":{"temperature":21.5}}`)
	f("cpu,host=a,zone=z,cpu=cpu0 idle=98 1763762400000", 0, `{"device":"a",`+at+`,"values":{"cpu.cpu0.z.idle":98}}`)
	f("x,host=h,device_id=i,device=d value=1 1763762400", 0, `{"device":"d",`+at+`,"values":{"x.i.h":1}}`)
	f(`my\ m,device=a my\ f="q\"\n" 1763762400`, 0, `{"device":"a",`+at+`,"values":{"my m.my f":"q\"\n"}}`)
	f("x,device=a value=1 1763762400", time.Second, `{"device":"a",`+at+`,"values":{"x":1}}`)
	f("x,device=a value=1 1763762400000", time.Millisecond, `{"device":"a",`+at+`,"values":{"x":1}}`)
	f("x,device=a value=1 29396040", time.Minute, `{"device":"a",`+at+`,"values":{"x":1}}`)
	f("x value=1\r\n# comment\n\ny value=2\n", 0,
		`{"device":"none","time":"2026-11-21T22:00:00.000000Z","values":{"x":1}}`+"\n"+
			`{"device":"none","time":"2026-11-21T22:00:00.000000Z","values":{"y":2}}`)
	f("", 0, "")
}

func TestLineRefused(t *testing.T) {
	f := func(payload string, want string) {
		t.Helper()
		says(t, Line, payload, Base{}, want)
	}
	const y = "\n" + `{"device":"none","time":"2026-11-21T22:00:00.000000Z","values":{"y":2}}`
	f("x\ny value=2", "refused malformed: not line protocol: …")
	f("x value=\ny value=2", "refused malformed: not line protocol: …")
	f("x s=\"open\ny value=2", "refused malformed: not line protocol: …")
	if got := transcript(NewDecoder(Config{}), Line, "x s=\"open\ny value=2", Base{}); !strings.HasSuffix(got, y) {
		t.Errorf("an open quote takes the next line along: %s", got)
	}
	f("x value=1 2 3", "refused malformed: not line protocol: …")
	f("x value=1 yesterday", "refused malformed: not line protocol: …")
	f("x value=nan", "refused malformed: not line protocol: …")
	f("x value=1e999", "refused malformed: not line protocol: …")
	f("x value=1 99999999999999999999", "refused time: time 99999999999999999999 is out of range…")
	f("x value=1,value=2", "check malformed: metric \"x\" stands twice…")
	f("x "+strings.Repeat("n", 256)+"=1", "refused limit: a metric name of 258 bytes…")
	f("x,device=a\\ b value=1", "check device: …")
	says(t, Line, "x value=1 1763762400000", Base{Precision: time.Second}, "refused time: time 1763762400000 is out of range for its precision")
	says(t, Line, "x value=1 9223372036854775807", Base{Precision: time.Hour}, "refused time: …")
	d := NewDecoder(Config{DeviceTags: []string{"sensor"}, Limits: Limits{Items: 1}})
	if got := transcript(d, Line, "x,sensor=s,host=h v=1", Base{}); !strings.HasPrefix(got, `{"device":"s"`) || !strings.Contains(got, `"x.h.v":1`) {
		t.Error(got)
	}
	if got := transcript(d, Line, "x v=1\nx v=1", Base{}); got != "error limit: more than 1 items in a message: split it" {
		t.Error(got)
	}
}

func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		"engine,device=truck-7,z=1 rpm=2100i,oil=4.1,on=t,s=\"a \\\"b\",u=3u 1763762400000000000\n# c\nx value=1", "x\\ ,a=b\\,c d=1 -5", "x v=\"",
	} {
		f.Add([]byte(seed), int64(0))
		f.Add([]byte(seed), int64(time.Second))
	}
	f.Fuzz(func(t *testing.T, payload []byte, precision int64) {
		roundTrip(t, NewDecoder(Config{}), Line, payload, Base{Precision: time.Duration(precision)})
	})
}

func TestValue(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		const head = `{"device":"none","time":"2026-11-21T22:00:00.000000Z","values":{"m":`
		if !strings.Contains(want, ": ") {
			want = head + want + "}}"
		}
		says(t, Value, payload, Base{Metric: "m"}, want)
	}
	f("21.5", "21.5")
	f(" -3\n", "-3")
	f("+4.0", "4")
	f(".5", "0.5")
	f("5.", "5")
	f("007", "7")
	f("1e3", "1000")
	f("1E+03", "1000")
	f("true", "true")
	f("false", "false")
	f("True", `"True"`)
	f("on", `"on"`)
	f(`"on"`, `"on"`)
	f(`"7"`, `"7"`)
	f("21.5 °C", `"21.5 °C"`)
	f("1.2.3", `"1.2.3"`)
	f("-", `"-"`)
	f(".", `"."`)
	f("1e", `"1e"`)
	f("0x10", `"0x10"`)
	f("", "refused malformed: the payload is empty: send a value")
	f("\n", "refused malformed: the payload is empty: send a value")
	for _, text := range []string{"NaN", "nan", "-nan", "inf", "-Infinity", "+Inf", "nan(ind)", "-nan(ind)", "1.#INF", "-1.#IND"} {
		f(text, "refused malformed: metric \"m\" is not a finite number: leave it out")
	}
	f("1e999", "refused malformed: metric \"m\" is 1e999, beyond the range…")
	f(`{"x":1}`, "refused malformed: the payload is JSON…")
	f(`[1]`, "refused malformed: the payload is JSON…")
	f(`"on`, "refused malformed: the JSON ends in the middle: send it whole")
	f("a\x00b", "check malformed: metric \"m\" is a text with a zero byte…")
	f("\xff", "check malformed: metric \"m\" is a text with…")
	f(strings.Repeat("x", 65537), "refused limit: metric \"m\" is a text of 65537 bytes…")
	says(t, Value, "1", Base{}, `{"device":"none","time":"2026-11-21T22:00:00.000000Z","values":{"value":1}}`)
}

func FuzzValue(f *testing.F) {
	for _, seed := range []string{"21.5", "true", "on", `"é"`, "nan", "-1.#IND", "1e999", "+.5e-3"} {
		f.Add([]byte(seed), "m")
	}
	f.Fuzz(func(t *testing.T, payload []byte, metric string) {
		roundTrip(t, NewDecoder(Config{}), Value, payload, Base{Metric: metric})
	})
}
