package telemetry_test

import (
	"net/url"
	"strings"
	"testing"

	"millrace/telemetry"
)

func parse(t *testing.T, query string) telemetry.Filter {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	f, err := telemetry.ParseFilter(values)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return f
}

func TestFilterMatch(t *testing.T) {
	r := truck()
	r.Metrics = append(r.Metrics, telemetry.Metric{Name: "lon", Value: telemetry.Number(4.3)})
	f := func(query string, want bool) {
		t.Helper()
		filter := parse(t, query)
		if got := filter.Match(&r); got != want {
			t.Errorf("%q matches: %v, want %v", query, got, want)
		}
	}
	f("", true)
	f("device=truck-7", true)
	f("device=truck-8", false)
	f("device=truck-8&device=truck-?", true)
	f("device=*-7", true)
	f("device=*", true)
	f("device=truck", false)
	f("metric=speed", true)
	f("metric=height", false)
	f("metric=height&metric=lat", true)
	f("where=speed>61", true)
	f("where=speed>61.2", false)
	f("where=speed>=61.2&where=lat<53", true)
	f("where=speed>1&where=lat<1", false)
	f("where=height>1", false)
	f("where=state=moving", true)
	f(`where=state=="moving"`, true)
	f("where=state!=moving", false)
	f("where=door=false", true)
	f("where=state>1", false)
	f("bbox=4,52,5,53", true)
	f("bbox=5,52,6,53", false)
	f("bbox=170,-90,5,90", true) // crosses the date line
	f("bbox=170,-90,-170,90", false)
}

func TestFilterRefuses(t *testing.T) {
	f := func(query, named string) {
		t.Helper()
		values, _ := url.ParseQuery(query)
		if _, err := telemetry.ParseFilter(values); err == nil || !strings.Contains(err.Error(), named) {
			t.Errorf("%q: %v, want an error that names %s", query, err, named)
		}
	}
	f("device=a/b", "a/b")
	f("device=[a]", "[a]")
	f("where=speed", "speed")
	f("where=>3", "where")
	f("where=speed>", "where")
	f("where=speed!3", "where")
	f("where=state>moving", "numbers")
	f("bbox=1,2,3", "bbox")
	f("bbox=1,2,3,4,5", "bbox")
	f("bbox=1,5,3,4", "bbox")
	f("bbox=1,a,3,4", "bbox")
	f("bbox=1,NaN,3,4", "bbox")
	f(strings.Repeat("metric=a&", 0)+"device="+strings.Repeat("a", 200), "longer")
}

func TestFilterKeysAgree(t *testing.T) {
	one := parse(t, "device=b&device=a&metric=x&where=x>1&where=y=2")
	other := parse(t, "where=y==2&where=x>1&metric=x&metric=x&device=a&device=b")
	if one.Key() != other.Key() {
		t.Errorf("keys %q and %q of the same wish differ", one.Key(), other.Key())
	}
	third := parse(t, "device=a&device=b&metric=x&where=x>1&where=y=3")
	if one.Key() == third.Key() {
		t.Errorf("different wishes share the key %q", one.Key())
	}
}

func TestFilterProject(t *testing.T) {
	r := truck()
	filter := parse(t, "metric=lat&metric=nowhere")
	if !filter.Project(&r) || len(r.Metrics) != 1 || r.Metrics[0].Name != "lat" {
		t.Errorf("projected to %v, want lat alone", r.Metrics)
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add("a*", "speed>80", "4,52,5,53")
	f.Fuzz(func(t *testing.T, device, where, bbox string) {
		filter, err := telemetry.ParseFilter(map[string][]string{"device": {device}, "where": {where}, "bbox": {bbox}})
		if err == nil {
			r := truck()
			filter.Match(&r)
			_ = filter.Key()
		}
	})
}
