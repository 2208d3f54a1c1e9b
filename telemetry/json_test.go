package telemetry_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"millrace/telemetry"
)

var at = time.Date(2026, 11, 21, 22, 0, 0, 123456000, time.UTC)

func truck() telemetry.Reading {
	return telemetry.Reading{Device: "truck-7", Time: at, Metrics: []telemetry.Metric{
		{Name: "speed", Value: telemetry.Number(61.2)},
		{Name: "lat", Value: telemetry.Number(52.1)},
		{Name: "state", Value: telemetry.Text("moving")},
		{Name: "door", Value: telemetry.Bool(false)},
	}}
}

const truckJSON = `{"device":"truck-7","time":"2026-11-21T22:00:00.123456Z","values":{"door":false,"lat":52.1,"speed":61.2,"state":"moving"}}`

func TestCanonicalForm(t *testing.T) {
	r := truck()
	if err := r.Check(at); err != nil {
		t.Fatal(err)
	}
	if got := string(r.AppendJSON(nil)); got != truckJSON {
		t.Errorf("canonical form\n got %s\nwant %s", got, truckJSON)
	}
}

func TestNumbersAreShortest(t *testing.T) {
	f := func(number float64, want string) {
		t.Helper()
		if got := string(telemetry.Number(number).AppendJSON(nil)); got != want {
			t.Errorf("%v is written %s, want %s", number, got, want)
		}
	}
	f(0, "0")
	f(math.Copysign(0, -1), "-0")
	f(61.2, "61.2")
	f(-1, "-1")
	f(0.1, "0.1")
	f(1e15, "1000000000000000")
	f(123456789012345680000, "123456789012345680000")
	f(1e21, "1e+21")
	f(1e-6, "0.000001")
	f(1e-7, "1e-7")
	f(1.5e-9, "1.5e-9")
	f(5e-324, "5e-324")
	f(math.MaxFloat64, "1.7976931348623157e+308")
}

func TestParseReading(t *testing.T) {
	want := truck()
	if err := want.Check(at); err != nil {
		t.Fatal(err)
	}
	f := func(name, text string) {
		t.Helper()
		var got telemetry.Reading
		if err := telemetry.ParseReading([]byte(text), &got); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if err := got.Check(at); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v %v\nwant %v", name, got, err, want)
		}
	}
	f("canonical", truckJSON)
	f("other order, spaces", `{ "values": {"speed":61.2,"state":"moving","door":false,"lat":52.10}, "time":"2026-11-21T22:00:00.123456+00:00", "device":"truck-7" }`)
	f("another zone", `{"device":"truck-7","time":"2026-11-21T23:00:00.123456+01:00","values":{"door":false,"lat":5.21e1,"speed":61.2,"state":"moving"}}`)
	f("escapes", `{"device":"truck\u002d7","time":"2026-11-21T22:00:00.123456Z","values":{"door":false,"l\u0061t":52.1,"speed":61.2,"state":"m\u006fving"}}`)
}

func TestParseReadingRefuses(t *testing.T) {
	f := func(text string) {
		t.Helper()
		var r telemetry.Reading
		if err := telemetry.ParseReading([]byte(text), &r); err == nil {
			t.Errorf("%s was read as %+v", text, r)
		}
	}
	values := func(v string) string {
		return `{"device":"a","time":"2026-11-21T22:00:00.123456Z","values":{"x":` + v + `}}`
	}
	for _, v := range []string{"01", "1.", ".5", "-", "--1", "1e", "+1", "NaN", "1e999", "null", "[1]", "{}", "tru", `"a`, "", "1 2", "1}", "00.5"} {
		f(values(v))
	}
	f("")
	f("null")
	f(truckJSON + "x")
	f(truckJSON[:len(truckJSON)-1])
	f(`{"device":"a","values":{"x":1}}`)
	f(`{"device":"a","time":"2026-02-31T22:00:00.000000Z","values":{"x":1}}`)
	f(`{"device":"a","time":"2026-11-21T24:00:00.000000Z","values":{"x":1}}`)
	f(`{"device":"a","time":"2026-11-21T22:00:00.000000Z","values":{"x":1},"more":"y"}`)
	f("{\"device\":\"a\",\"time\":\"2026-11-21T22:00:00.000000Z\",\"values\":{\"x\":\"\xff\"}}")
}

func TestCheckRefuses(t *testing.T) {
	f := func(reason telemetry.Reason, change func(r *telemetry.Reading)) {
		t.Helper()
		r := truck()
		change(&r)
		err := r.Check(at)
		refusal, ok := err.(*telemetry.Refusal)
		if !ok || refusal.Reason != reason {
			t.Errorf("Check answered %v, want reason %s", err, reason)
		}
	}
	f(telemetry.ReasonDevice, func(r *telemetry.Reading) { r.Device = "" })
	f(telemetry.ReasonDevice, func(r *telemetry.Reading) { r.Device = "NIA North" })
	f(telemetry.ReasonDevice, func(r *telemetry.Reading) { r.Device = "größe" })
	f(telemetry.ReasonDevice, func(r *telemetry.Reading) { r.Device = string(make([]byte, 129)) })
	f(telemetry.ReasonTime, func(r *telemetry.Reading) { r.Time = at.Add(time.Hour + time.Millisecond) })
	f(telemetry.ReasonTime, func(r *telemetry.Reading) { r.Time = time.Unix(0, 0) })
	f(telemetry.ReasonMalformed, func(r *telemetry.Reading) { r.Metrics = nil })
	f(telemetry.ReasonMalformed, func(r *telemetry.Reading) { r.Metrics[0].Name = "lat" })
	f(telemetry.ReasonMalformed, func(r *telemetry.Reading) { r.Metrics[0].Name = "a\nb" })
	f(telemetry.ReasonMalformed, func(r *telemetry.Reading) { r.Metrics[0].Value = telemetry.Number(math.NaN()) })
	f(telemetry.ReasonMalformed, func(r *telemetry.Reading) { r.Metrics[0].Value = telemetry.Number(math.Inf(-1)) })
	f(telemetry.ReasonMalformed, func(r *telemetry.Reading) { r.Metrics[0].Value = telemetry.Text("a\x00b") })
	f(telemetry.ReasonMalformed, func(r *telemetry.Reading) { r.Metrics[0].Value = telemetry.Text("\xff") })
	f(telemetry.ReasonMalformed, func(r *telemetry.Reading) { r.Metrics[0].Value = telemetry.Value{} })
	f(telemetry.ReasonLimit, func(r *telemetry.Reading) { r.Metrics = make([]telemetry.Metric, telemetry.MaxMetrics+1) })
	f(telemetry.ReasonLimit, func(r *telemetry.Reading) {
		r.Metrics[0].Value = telemetry.Text(string(make([]byte, telemetry.MaxText+1)))
	})
}

func TestStoredIsWhatWasSaid(t *testing.T) {
	for _, v := range []telemetry.Value{telemetry.Number(-1.5), telemetry.Text("true"), telemetry.Text(""), telemetry.Bool(true), telemetry.Bool(false)} {
		var number *float64
		var text *string
		if v.HasNumber() {
			number = new(v.Number())
		}
		if v.HasText() {
			text = new(v.Text())
		}
		if got := telemetry.Stored(number, text); got != v {
			t.Errorf("%v came back from two columns as %v", v, got)
		}
	}
}

func TestMetricTwiceIsRefused(t *testing.T) {
	for _, values := range []string{`"x":1,"x":2`, `"x":1, "x":2`, `"x":1,"\u0078":2`} {
		var r telemetry.Reading
		err := telemetry.ParseReading([]byte(`{"device":"a","time":"2026-11-21T22:00:00.000000Z","values":{`+values+`}}`), &r)
		if err == nil {
			err = r.Check(at)
		}
		if err == nil {
			t.Errorf("%s was accepted as %+v", values, r)
		}
	}
}

func TestParseReadingReuses(t *testing.T) {
	r := telemetry.Reading{}
	line := []byte(`{"device":"truck-7","time":"2026-11-21T22:00:00.123456Z","values":{"door":false,"lat":52.1,"speed":61.2,"state":"moving"}}`)
	buffer := make([]byte, 0, 512)
	allocations := testing.AllocsPerRun(100, func() {
		if err := telemetry.ParseReading(line, &r); err != nil {
			t.Fatal(err)
		}
		buffer = r.AppendJSON(buffer[:0])
	})
	if allocations != 0 {
		t.Errorf("reading and writing the canonical form allocates %v times, want 0", allocations)
	}
}

func FuzzParseReading(f *testing.F) {
	f.Add([]byte(truckJSON))
	f.Add([]byte(`{"values":{"a.b":-0.5e3,"s":"\u00e9\n"},"device":"d","time":"2026-11-21T22:00:00+02:00"}`))
	f.Add([]byte(`{"device":"a","time":"2026-11-21T22:00:00.000000Z","values":{"x":123456789.1234567890123}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again telemetry.Reading
		if telemetry.ParseReading(b, &r) != nil || r.Check(at) != nil {
			return
		}
		canonical := r.AppendJSON(nil)
		if err := telemetry.ParseReading(canonical, &again); err != nil {
			t.Fatalf("%s became %s, which is not read: %v", b, canonical, err)
		}
		if err := again.Check(at); err != nil {
			t.Fatal(err)
		}
		if second := again.AppendJSON(nil); string(second) != string(canonical) || !reflect.DeepEqual(r, again) {
			t.Fatalf("%s became %s and then %s", b, canonical, second)
		}
	})
}

func BenchmarkParseReading(b *testing.B) {
	var r telemetry.Reading
	b.ReportAllocs()
	b.SetBytes(int64(len(truckJSON)))
	line := []byte(truckJSON)
	for b.Loop() {
		if err := telemetry.ParseReading(line, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	r := truck()
	buffer := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buffer = r.AppendJSON(buffer[:0])
	}
}
