package ingest

import (
	"strings"
	"testing"

	"millrace/devices"
	"millrace/telemetry"
	"millrace/telemetry/format"
)

func mustPatterns(t testing.TB, texts ...string) *Patterns {
	t.Helper()
	p, err := ParsePatterns(texts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// describe is a route in one line.
func describe(r Route, ours bool) string {
	switch {
	case !ours:
		return "not ours"
	case r.Refused != nil:
		return "refused " + string(r.Refused.Reason)
	}
	text := r.Form.String() + " " + r.Device
	if r.Me {
		text += "me"
	}
	if r.Metric != "" {
		text += " " + r.Metric
	}
	return text
}

func TestDefaultPatterns(t *testing.T) {
	p := mustPatterns(t, DefaultPatterns()...)
	f := func(topic, want string) {
		t.Helper()
		if got := describe(p.Match(topic)); got != want {
			t.Errorf("%q: %s, want %s", topic, got, want)
		}
	}
	f("telemetry/truck-7", "json truck-7")
	f("telemetry/truck-7/speed", "value truck-7 speed")
	f("telemetry/a b", "json a b") // the gate refuses the name
	f("v1/devices/me/telemetry", "json me")
	f("telemetry", "refused topic")
	f("telemetry/", "refused topic")
	f("telemetry//x", "refused topic")
	f("telemetry/a/", "refused topic")
	f("telemetry/a/b/c", "refused topic")
	f("telemetryx/a", "not ours")
	f("Telemetry/a", "not ours")
	f("/telemetry/a", "not ours")
	f("v1/devices/me/attributes", "not ours")
	f("v1/devices/me/telemetry/", "not ours")
	f("", "not ours")
	f("$SYS/broker", "not ours")
	f("spBv1.0/g/NDATA/e", "sparkplug g:e")
	f("spBv1.0/g/DDATA/e/d", "sparkplug g:e:d")
	f("spBv1.0/g/DBIRTH/e/d", "sparkplug g:e:d")
	f("spBv1.0/g/NDEATH/e", "sparkplug g:e")
	f("spBv1.0/g/NCMD/e", "not ours")
	f("spBv1.0/g/DCMD/e/d", "not ours")
	f("spBv1.0/STATE/scada", "not ours")
	f("spBv1.0/g/NDATA/e/d", "refused topic")
	f("spBv1.0/g/DDATA/e", "refused topic")
	f("spBv1.0/g/DDATA/e/d/x", "refused topic")
	f("spBv1.0/g/XDATA/e", "refused topic")
	f("spBv1.0//NDATA/e", "refused topic")
	f("spBv1.0", "refused topic")
}

func TestOwnPatterns(t *testing.T) {
	f := func(pattern, topic, want string) {
		t.Helper()
		if got := describe(mustPatterns(t, pattern).Match(topic)); got != want {
			t.Errorf("%q %q: %s, want %s", pattern, topic, got, want)
		}
	}
	f("sensors/{device}/data", "sensors/a/data", "json a")
	f("sensors/{device}/data", "sensors/a/cmd", "not ours")
	f("sensors/{device}/data", "sensors//data", "not ours")
	f("sensors/{device}/data", "sensors/a/data/x", "not ours")
	f("+/{device}/#", "x/a/b/c", "json a")
	f("+/{device}/#", "x/a", "json a")
	f("+/{device}/#", "x", "not ours")
	f("+/{device}/#", "$SYS/a", "not ours")
	f("{device}/state", "$SYS/state", "not ours")
	f("#", "anything/at/all", "json me")
	f("#", "$SYS/x", "not ours")
	f("{device}/{metric}/now", "a/speed/now", "value a speed")
	f("{metric}/of/{device}", "speed/of/a", "value a speed")
	f("line:plant/{device}", "plant/a", "line a")
	f("senml+cbor:plant/{device}", "plant/a", "senml+cbor a")
	f("sparkplug:spBv1.0/#", "spBv1.0/g/NDATA/e", "sparkplug g:e")
	f("json:spBv1.0/{device}", "spBv1.0/a", "json a")
	f("telemetry/+/{device}", "telemetry/x", "refused topic")
}

func TestParsePatternsRefuses(t *testing.T) {
	f := func(pattern, want string) {
		t.Helper()
		_, err := ParsePatterns([]string{"telemetry/{device}", pattern})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want …%s…", pattern, err, want)
		}
	}
	f("", "is not a topic filter")
	f("json:", "is not a topic filter")
	f("a\x00b", "is not a topic filter")
	f("a/#/b", "# may only be the last level")
	f("a/b#", "a level is {device}")
	f("sport+", "a level is {device}")
	f("dev-{device}/x", "a level is {device}")
	f("{device}/{device}", "{device} may stand only once")
	f("line:{device}/{metric}", "{metric} is for bare values")
	f("sparkplug:x/#", "begins with spBv1.0/")
	f("spBv1.0/{device}", "write spBv1.0/#")
}

func TestRouteAddress(t *testing.T) {
	p := mustPatterns(t, DefaultPatterns()...)
	m := Message{Publisher: devices.Principal{Device: "a"}}
	route, _ := p.Match("v1/devices/me/telemetry")
	if route.Address(&m); m.Device != "a" {
		t.Errorf("%+v", m)
	}
	route, _ = p.Match("telemetry/b/speed")
	if route.Address(&m); m.Device != "b" || m.Metric != "speed" || m.Form != format.Value || m.Refused != nil {
		t.Errorf("%+v", m)
	}
	route, _ = p.Match("telemetry/")
	if route.Address(&m); m.Refused == nil {
		t.Errorf("%+v", m)
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	p := mustPatterns(t, DefaultPatterns()...)
	if n := testing.AllocsPerRun(100, func() { p.Match("telemetry/truck-7") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAgain(t *testing.T) {
	p := mustPatterns(t, DefaultPatterns()...)
	f := func(topic, want string) {
		t.Helper()
		m, err := p.Again(&telemetry.DeadLetter{Source: "x", Topic: topic}, []byte("b"))
		got := strings.TrimSpace(strings.Join([]string{m.Form.String(), m.Device, m.Metric}, " "))
		if err != nil {
			got = "error"
		}
		if got != want || err == nil && (string(m.Payload) != "b" || !m.Wait) {
			t.Errorf("%q: %s, want %s (%v)", topic, got, want, err)
		}
	}
	f("telemetry/a", "json a")
	f("telemetry/a/speed", "value a speed")
	f("telemetry/a/b/c", "error")
	f("elsewhere", "error")
	f("/v1/telemetry", "json")
	f("/v1/telemetry?form=senml%2Bcbor", "senml+cbor")
	f("/v1/telemetry?form=line&precision=s", "line")
	f("/v1/devices/truck-7/telemetry", "json truck-7")
	f("/v1/devices/truck-7/elsewhere", "error")
	f("/v1/elsewhere", "error")
	f("/v1/telemetry?form=xml", "error")
	f("/v1/%zz", "error")
}

// FuzzPatterns: no pattern and no topic breaks the matcher, and what a route
// names are levels of the topic.
func FuzzPatterns(f *testing.F) {
	for _, p := range append(DefaultPatterns(), "sensors/{device}/data", "+/{device}/#", "line:x/{device}", "{metric}/{device}") {
		f.Add(p, "telemetry/truck-7/speed")
		f.Add(p, "spBv1.0/g/DDATA/e/d")
	}
	f.Fuzz(func(t *testing.T, pattern, topic string) {
		p, err := ParsePatterns([]string{pattern})
		if err != nil {
			return
		}
		route, ours := p.Match(topic)
		if !ours || route.Refused != nil || route.Form == format.Sparkplug {
			return
		}
		levels := map[string]bool{}
		for level := range strings.SplitSeq(topic, "/") {
			levels[level] = true
		}
		if strings.Contains(pattern, "{device}") != levels[route.Device] && route.Device != "" {
			t.Fatalf("%q %q: device %q", pattern, topic, route.Device)
		}
		if route.Device == "" == !route.Me || route.Metric != "" && !levels[route.Metric] {
			t.Fatalf("%q %q: %+v", pattern, topic, route)
		}
	})
}
