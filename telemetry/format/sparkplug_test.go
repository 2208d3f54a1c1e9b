package format

import (
	"fmt"
	"math"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// sp builds Sparkplug messages as an edge node would write them.
type sp []byte

func (b sp) varint(n protowire.Number, v uint64) sp {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func (b sp) text(n protowire.Number, v string) sp {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func (b sp) double(v float64) sp {
	return protowire.AppendFixed64(protowire.AppendTag(b, metricDouble, protowire.Fixed64Type), math.Float64bits(v))
}

func (b sp) float(v float32) sp {
	return protowire.AppendFixed32(protowire.AppendTag(b, metricFloat, protowire.Fixed32Type), math.Float32bits(v))
}

func (b sp) metric(m sp) sp { return b.text(payloadMetrics, string(m)) }

func named(name string) sp { return sp{}.text(metricName, name) }

func alias(n uint64) sp { return sp{}.varint(metricAlias, n) }

const sent = 1763762400000 // 2025-11-21T22:00:00Z

func payload(metrics ...sp) string {
	b := sp{}.varint(payloadTimestamp, sent)
	for _, m := range metrics {
		b = b.metric(m)
	}
	return string(b.varint(3, 7)) // seq
}

func TestSparkplug(t *testing.T) {
	d := NewDecoder(Config{})
	f := func(topic, payload, want string) {
		t.Helper()
		if got := transcript(d, Sparkplug, payload, Base{Topic: topic}); got != want {
			t.Errorf("%s\n got %s\nwant %s", topic, got, want)
		}
	}
	const head = `{"device":"g:e:d","time":"2025-11-21T22:00:00.000000Z","values":`
	rebirth := func(device, name string, alias int) string {
		return fmt.Sprintf("refused malformed: no birth of %s defined metric %q (alias %d): ask for a rebirth (NCMD Node Control/Rebirth)", device, name, alias)
	}
	birth := payload(
		named("temp").varint(metricAlias, 1).varint(metricDatatype, spInt16).varint(metricInt, 0xffff),
		named("Device Control/Rebirth").varint(metricAlias, 2).varint(metricDatatype, 11).varint(metricBoolean, 0),
		named("gone").varint(metricAlias, 3).varint(metricDatatype, 12).varint(metricNull, 1),
		named("bdSeq").varint(metricDatatype, spUInt64).varint(metricLong, 3),
	)
	f("spBv1.0/g/DDATA/e/d", payload(alias(1).varint(metricInt, 5)), rebirth("g:e:d", "", 1))
	f("spBv1.0/g/DBIRTH/e/d", birth, head+`{"temp":-1}}`)
	f("spBv1.0/g/DDATA/e/d", payload(alias(1).varint(metricInt, 5), alias(3).text(metricString, "back")), head+`{"gone":"back","temp":5}}`)
	f("spBv1.0/g/DDATA/e/d", payload(named("temp").varint(metricInt, 0xfffe)), head+`{"temp":-2}}`)
	f("spBv1.0/g/DDATA/e/d", payload(alias(9).varint(metricInt, 5), alias(1).varint(metricInt, 6)), rebirth("g:e:d", "", 9)+"\n"+head+`{"temp":6}}`)
	f("spBv1.0/g/DDATA/e/x", payload(alias(1).varint(metricInt, 5)), rebirth("g:e:x", "", 1))
	f("spBv1.0/g/DDATA/e/d", payload(named("new").varint(metricInt, 5)), rebirth("g:e:d", "new", 0))
	f("spBv1.0/g/DDATA/e/d", payload(named("new").double(0.5), named("f").float(0.25)), head+`{"f":0.25,"new":0.5}}`)
	f("spBv1.0/g/DDATA/e/d", payload(
		named("a").double(1).varint(metricTimestamp, sent-1000), named("b").double(2).varint(metricTimestamp, sent-1000), named("a").double(3)),
		`{"device":"g:e:d","time":"2025-11-21T21:59:59.000000Z","values":{"a":1,"b":2}}`+"\n"+head+`{"a":3}}`)
	f("spBv1.0/g/DDEATH/e/d", payload(), "")
	f("spBv1.0/g/DDATA/e/d", payload(alias(1).varint(metricInt, 5)), rebirth("g:e:d", "", 1))
	f("spBv1.0/g/DBIRTH/e/d", birth, head+`{"temp":-1}}`)
	f("spBv1.0/g/NBIRTH/e", payload(named("up").varint(metricDatatype, 11).varint(metricBoolean, 1)),
		`{"device":"g:e","time":"2025-11-21T22:00:00.000000Z","values":{"up":true}}`)
	f("spBv1.0/g/DDATA/e/d", payload(alias(1).varint(metricInt, 5)), rebirth("g:e:d", "", 1))
}

func TestSparkplugDatatypes(t *testing.T) {
	f := func(datatype uint64, field protowire.Number, bits uint64, want string) {
		t.Helper()
		if want[0] != 'r' {
			want = `{"device":"g:e","time":"2025-11-21T22:00:00.000000Z","values":{"x":` + want + `}}`
		}
		m := named("x").varint(metricDatatype, datatype).varint(field, bits)
		says(t, Sparkplug, payload(m), Base{Topic: "spBv1.0/g/NDATA/e"}, want)
	}
	f(spInt8, metricInt, 0xff, "-1")
	f(spInt32, metricInt, 0xffffffff, "-1")
	f(spInt64, metricLong, math.MaxUint64, "-1")
	f(spUInt8, metricInt, 255, "255")
	f(7, metricInt, 0xffffffff, "4294967295")
	f(spUInt64, metricLong, 1<<60, "1152921504606847000")
	f(spDateTime, metricLong, sent, "1763762400000")
	f(22, metricInt, 1, "refused malformed: metric \"x\" is of Sparkplug datatype 22 in field 10…")
	f(17, 18, 1, "refused malformed: metric \"x\" is of Sparkplug datatype 17 in field 18…")
}

func TestSparkplugRefused(t *testing.T) {
	f := func(topic, payload, want string) {
		t.Helper()
		says(t, Sparkplug, payload, Base{Topic: topic}, want)
	}
	const data = "spBv1.0/g/NDATA/e"
	f("spBv1.0/g/NCMD/e", payload(), "error topic: …")
	f("elsewhere", payload(), "error topic: …")
	f("spBv1.0/g/NDATA", payload(), "error topic: …")
	f(data, "\xff", "error malformed: not a Sparkplug B payload: …")
	f(data, "{\"x\":1}", "error malformed: not a Sparkplug B payload: …")
	f(data, string(sp{}.text(payloadTimestamp, "x")), "error malformed: not a Sparkplug B payload: timestamp or metrics…")
	f(data, string(sp{}.varint(payloadMetrics, 1)), "error malformed: not a Sparkplug B payload: timestamp or metrics…")
	f(data, payload(sp{}.varint(metricName, 1)), "error malformed: not a Sparkplug B payload: metric field 1 has the wrong wire type")
	f(data, payload(named("\xff").double(1)), "error malformed: not a Sparkplug B payload: a metric name is not UTF-8")
	f(data, payload(named("x").double(math.NaN())), "refused malformed: metric \"x\" is not a finite number…")
	f(data, payload(named("x").double(1).varint(metricTimestamp, math.MaxUint64)), "check time: …")
	f("spBv1.0/g/NBIRTH/e", payload(alias(1).double(1)), "refused malformed: a metric in a birth has no name: name it")
	f("spBv1.0/a b/NDATA/e", payload(named("x").double(1)), "check device: …")
	d := NewDecoder(Config{Limits: Limits{Items: 1}})
	if got := transcript(d, Sparkplug, payload(named("x").double(1), named("y").double(1)), Base{Topic: data}); got != "error limit: more than 1 items in a message: split it" {
		t.Error(got)
	}
}

func TestAliasesAreBounded(t *testing.T) {
	a := NewAliases(3)
	two := []Definition{{Name: "x", Alias: 1, HasAlias: true}, {Name: "y"}}
	a.Born("g/e", "", two)
	a.Born("g/f", "", two) // four are more than three: the oldest goes
	if _, ok := a.ByAlias("g/e", "", 1); ok {
		t.Error("the oldest birth is still there")
	}
	if d, ok := a.ByAlias("g/f", "", 1); !ok || d.Name != "x" {
		t.Error(d, ok)
	}
	if d, ok := a.ByName("g/f", "", "y"); !ok || d.Name != "y" {
		t.Error(d, ok)
	}
	a.Died("g/f", "")
	if _, ok := a.ByName("g/f", "", "y"); ok || a.size != 0 || len(a.order) != 0 {
		t.Error(a.size, a.order)
	}
}

func TestAliasesConcurrently(t *testing.T) {
	a := NewAliases(100)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 200 {
				node := fmt.Sprint("g/", (i+j)%7)
				a.Born(node, "d", []Definition{{Name: "x", Alias: 1, HasAlias: true}})
				a.ByAlias(node, "d", 1)
				a.Died(node, "")
			}
		})
	}
	wg.Wait()
	if a.size != 0 || len(a.births) != 0 {
		t.Error(a.size)
	}
}

func FuzzSparkplug(f *testing.F) {
	f.Add("spBv1.0/g/NDATA/e", []byte(payload(named("x").double(1), named("y").varint(metricDatatype, 3).varint(metricInt, 9))))
	f.Add("spBv1.0/g/DBIRTH/e/d", []byte(payload(named("x").varint(metricAlias, 1).varint(metricNull, 1))))
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		d := NewDecoder(Config{})
		roundTrip(t, d, Sparkplug, payload, Base{Topic: topic})
		roundTrip(t, d, Sparkplug, payload, Base{Topic: topic}) // with its own births
	})
}
