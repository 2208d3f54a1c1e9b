package storage_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"millrace/storage"
	"millrace/telemetry"
)

// api is the query API of a bundle, with a day's readings of three devices.
type api struct {
	t    *testing.T
	h    http.Handler
	said []string
}

func newAPI(t *testing.T, b *bundle) *api {
	a := &api{t: t, h: storage.NewHandler(b.db, storage.QueryConfig{Now: func() time.Time { return midnight.Add(24 * time.Hour) }})}
	h := b.sink(0)
	var batch []telemetry.Record
	for s := range 40 {
		for d := range 3 {
			r := reading(t, fmt.Sprintf(`truck-%d %d on=true speed=%d state="a,""b"`, d, s*2000, s))
			a.said = append(a.said, string(r.AppendJSON(nil)))
			batch = append(batch, b.append(0, r))
		}
	}
	b.handle(h, batch...)
	if b.db.Layout() == storage.LayoutTimescale { // real time begins behind the last refresh
		if err := storage.NewRollups(b.db, storage.RollupsConfig{}).Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func (a *api) get(path string, header ...string) *http.Response {
	a.t.Helper()
	request := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, request)
	return w.Result()
}

func (a *api) body(path string, header ...string) string {
	a.t.Helper()
	response := a.get(path, header...)
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %v, %d %s", path, err, response.StatusCode, body)
	}
	return string(body)
}

// exerciseQuery: the API as an analyst uses it.
func exerciseQuery(t *testing.T, fresh func(*testing.T) *bundle) {
	a := newAPI(t, fresh(t))
	for name, run := range map[string]func(*testing.T, *api){
		"forms": queryForms, "pages": queryPages, "spans": querySpans, "rollups": queryRollups, "lists": queryLists, "errors": queryErrors,
	} {
		t.Run(name, func(t *testing.T) {
			one := *a
			one.t = t
			run(t, &one)
		})
	}
}

func queryForms(t *testing.T, a *api) {
	all := strings.Join(a.said, "\n") + "\n"
	equal(t, "ndjson", a.body("/v1/readings?format=ndjson"), all)
	equal(t, "ndjson by Accept", a.body("/v1/readings", "Accept", "application/x-ndjson"), all)
	equal(t, "json", a.body("/v1/readings"), "["+strings.Join(a.said, ",\n")+"]\n")
	equal(t, "nothing", a.body("/v1/readings?device=nobody"), "[]\n")
	equal(t, "csv", a.body("/v1/readings?device=truck-1&to=2026-11-21T00:00:01Z", "Accept", "text/csv, */*"),
		"time,device,metric,value,text\r\n2026-11-21T00:00:00.000000Z,truck-1,on,1,true\r\n"+
			"2026-11-21T00:00:00.000000Z,truck-1,speed,0,\r\n2026-11-21T00:00:00.000000Z,truck-1,state,,\"a,\"\"\"\"b\"\r\n")
	if got := a.get("/v1/readings?format=csv").Header.Get("Content-Type"); got != "text/csv; charset=utf-8" {
		t.Error(got)
	}
}

func queryPages(t *testing.T, a *api) {
	for _, order := range []string{"asc", "desc"} {
		var got []string
		path := "/v1/readings?limit=7&format=ndjson&order=" + order
		for pages := 0; path != ""; pages++ {
			if pages > 20 {
				t.Fatal("the pages do not end")
			}
			response := a.get(path)
			body, _ := io.ReadAll(response.Body)
			got = append(got, strings.Fields(string(body))...)
			path, _, _ = strings.Cut(strings.TrimPrefix(response.Header.Get("Link"), "<"), ">")
		}
		want := strings.Fields(strings.Join(a.said, "\n"))
		if order == "desc" {
			for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
				want[i], want[j] = want[j], want[i]
			}
		}
		equal(t, order, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func querySpans(t *testing.T, a *api) {
	equal(t, "absolute", a.body("/v1/readings?format=ndjson&from=2026-11-21T00:33:20Z&to=2026-11-21T01:06:40Z"), strings.Join(a.said[3:6], "\n")+"\n")
	equal(t, "relative", a.body("/v1/readings?format=ndjson&from=-24h&to=-23h50m"), strings.Join(a.said[:3], "\n")+"\n")
	equal(t, "days", a.body("/v1/readings?format=ndjson&from=-1d&to=now"), strings.Join(a.said, "\n")+"\n")
	equal(t, "where", a.body("/v1/readings?device=truck-1&metric=speed&format=ndjson&where="+url.QueryEscape("speed>38")),
		`{"device":"truck-1","time":"2026-11-21T21:40:00.000000Z","values":{"speed":39}}`+"\n")
}

func queryRollups(t *testing.T, a *api) {
	equal(t, "day", a.body("/v1/series?metric=speed&bucket=1d&from=2026-11-21T00:00:00Z&device=truck-0"),
		`[{"bucket":"2026-11-21T00:00:00.000000Z","device":"truck-0","metric":"speed","count":40,"sum":780,"min":0,"max":39,"first":0,"last":39,"avg":19.5}]`+"\n")
	equal(t, "csv", a.body("/v1/series?bucket=1h&from=2026-11-21T00:00:00Z&to=2026-11-21T01:00:00Z&device=truck-*&metric=speed&format=csv"),
		"bucket,device,metric,count,sum,min,max,first,last,avg\r\n"+
			"2026-11-21T00:00:00.000000Z,truck-0,speed,2,1,0,1,0,1,0.5\r\n"+
			"2026-11-21T00:00:00.000000Z,truck-1,speed,2,1,0,1,0,1,0.5\r\n"+
			"2026-11-21T00:00:00.000000Z,truck-2,speed,2,1,0,1,0,1,0.5\r\n")
	for span, want := range map[string]int{"&from=-24h": 40, "&from=-10d": 22, "&from=-100d": 1} { // of minutes, hours, days
		var got []any
		if err := json.Unmarshal([]byte(a.body("/v1/series?device=truck-0&metric=speed&to=now"+span)), &got); err != nil || len(got) != want {
			t.Errorf("auto over %s: %d buckets, want %d; %v", span, len(got), want, err)
		}
	}
}

func queryLists(t *testing.T, a *api) {
	equal(t, "series", a.body("/v1/series?device=truck-1&format=csv"), "device,metric\r\ntruck-1,on\r\ntruck-1,speed\r\ntruck-1,state\r\n")
	equal(t, "devices", a.body("/v1/devices?device=truck-1"),
		`[{"device":"truck-1","created":"2026-11-21T00:00:01.000000Z","seen":"2026-11-21T21:40:01.000000Z","disabled":false,"metrics":3}]`+"\n")
	equal(t, "csv", a.body("/v1/devices?format=csv&limit=1"),
		"device,created,seen,disabled,metrics\r\ntruck-0,2026-11-21T00:00:01.000000Z,2026-11-21T21:40:01.000000Z,false,3\r\n")
	link := a.get("/v1/series?limit=4").Header.Get("Link")
	equal(t, "link", link, `</v1/series?cursor=truck-1+on&limit=4>; rel="next"`)
	equal(t, "next", a.body("/v1/series?cursor=truck-1+on&limit=2&format=ndjson"),
		`{"device":"truck-1","metric":"speed"}`+"\n"+`{"device":"truck-1","metric":"state"}`+"\n")
}

func queryErrors(t *testing.T, a *api) {
	for path, names := range map[string]string{
		"/v1/readings?metrics=speed":               "metrics",
		"/v1/readings?from=yesterday":              "from",
		"/v1/readings?from=-1h&to=-2h":             "to",
		"/v1/readings?limit=0":                     "limit",
		"/v1/readings?limit=10001":                 "limit",
		"/v1/readings?order=up":                    "order",
		"/v1/readings?cursor=nonsense":             "cursor",
		"/v1/readings?format=xml":                  "format",
		"/v1/readings?where=speed":                 "where",
		"/v1/series?bucket=5m":                     "bucket",
		"/v1/series?where=speed%3E1":               "where",
		"/v1/devices?from=-1h":                     "from",
		"/v1/readings?cursor=" + streamCursor(a.t): "cursor",
	} {
		response := a.get(path)
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusUnprocessableEntity || response.Header.Get("Content-Type") != "application/problem+json" ||
			!strings.Contains(string(body), `"detail":"`+names+": ") {
			t.Errorf("%s: %d %s", path, response.StatusCode, body)
		}
	}
}

func streamCursor(t *testing.T) string {
	t.Helper()
	return telemetry.Cursor{Log: logID, Next: []int64{1}}.String()
}
