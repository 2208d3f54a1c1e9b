package format

import (
	"strings"
	"testing"
	"time"

	"millrace/telemetry"
)

var received = time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)

// transcript decodes and writes down, one line an item, what came of it: the
// canonical form of what Check accepts, and the reason of what is refused.
func transcript(d *Decoder, form Form, payload string, base Base) string {
	if base.Received.IsZero() {
		base.Received = received
	}
	var lines []string
	err := d.Decode(form, []byte(payload), base, func(i Item) bool {
		lines = append(lines, line(i, base))
		return true
	})
	if err != nil {
		return "error " + string(err.(*telemetry.Refusal).Reason) + ": " + err.Error()
	}
	return strings.Join(lines, "\n")
}

func line(i Item, base Base) string {
	if i.Refused != nil {
		return "refused " + string(i.Refused.Reason) + ": " + i.Refused.Detail
	}
	r := *i.Reading
	if r.Device == "" {
		r.Device = "none"
	}
	if r.Time.IsZero() {
		r.Time = base.Received
	}
	if err := r.Check(base.Received); err != nil {
		return "check " + string(err.(*telemetry.Refusal).Reason) + ": " + err.Error()
	}
	return string(r.AppendJSON(nil))
}

// says compares what a payload gives with what it should. A want that ends in …
// is a beginning.
func says(t *testing.T, form Form, payload string, base Base, want string) {
	t.Helper()
	got := transcript(NewDecoder(Config{}), form, payload, base)
	same := got == want
	if begin, cut := strings.CutSuffix(want, "…"); cut {
		same = strings.HasPrefix(got, begin)
	}
	if !same {
		t.Errorf("%s %.300q\n got %s\nwant %s", form, payload, got, want)
	}
}

func TestFormNames(t *testing.T) {
	for f := JSON; f <= Sparkplug; f++ {
		if got, err := ParseForm(f.String()); got != f || err != nil {
			t.Errorf("ParseForm(%q) = %v, %v", f, got, err)
		}
	}
	for _, name := range []string{"", "none", "JSON", "xml"} {
		if got, err := ParseForm(name); err == nil {
			t.Errorf("ParseForm(%q) = %v", name, got)
		}
	}
	if got := Form(200).String(); got != "form 200" {
		t.Error(got)
	}
}

func TestFormOf(t *testing.T) {
	f := func(contentType string, want Form) {
		t.Helper()
		if got, ok := FormOf(contentType); got != want || ok != (want != None) {
			t.Errorf("FormOf(%q) = %v, %v", contentType, got, ok)
		}
	}
	f("application/json", JSON)
	f("Application/JSON; charset=utf-8", JSON)
	f("application/x-ndjson", NDJSON)
	f("application/senml+json", SenML)
	f("application/senml+cbor", SenMLCBOR)
	f("text/plain; charset=utf-8", Line)
	f("application/xml", None)
	f("application/json-seq", None)
	f("", None)
	f("no type/at all;;", None)
	for _, media := range ContentTypes() {
		if _, ok := FormOf(media); !ok {
			t.Errorf("%s is advertised and not known", media)
		}
	}
}

func TestUnknownFormIsRefused(t *testing.T) {
	says(t, None, "{}", Base{}, "error malformed: none is not a form that can be decoded")
	says(t, Form(99), "{}", Base{}, "error malformed: form 99 …")
}
