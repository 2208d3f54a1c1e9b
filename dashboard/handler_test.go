package dashboard

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func built() http.Handler {
	return handler(fstest.MapFS{
		".keep":                  {},
		"index.html":             {Data: []byte("<!doctype html><title>Millrace</title>")},
		"assets/main-4711.js":    {Data: []byte("export const long = '" + strings.Repeat("x", 4000) + "'")},
		"assets/style-4711.css":  {Data: []byte("body{}")},
		"assets/world-4711.json": {Data: []byte("{}")},
		"favicon.svg":            {Data: []byte("<svg/>")},
	})
}

func get(h http.Handler, method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestFilesHaveTheirTypesAndTheirCaching(t *testing.T) {
	f := func(path, contentType, caching string) {
		t.Helper()
		res := get(built(), http.MethodGet, path)
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d", path, res.StatusCode)
		}
		if got := res.Header.Get("Content-Type"); got != contentType {
			t.Errorf("%s: type %q, want %q", path, got, contentType)
		}
		if got := res.Header.Get("Cache-Control"); got != caching {
			t.Errorf("%s: caching %q, want %q", path, got, caching)
		}
	}
	const forEver = "public, max-age=31536000, immutable"
	f("/", "text/html; charset=utf-8", "no-cache")
	f("/index.html", "text/html; charset=utf-8", "no-cache")
	f("/favicon.svg", "image/svg+xml", "no-cache")
	f("/assets/main-4711.js", "text/javascript; charset=utf-8", forEver)
	f("/assets/style-4711.css", "text/css; charset=utf-8", forEver)
	f("/assets/world-4711.json", "application/json", forEver)
}

func TestEveryAnswerCarriesThePolicy(t *testing.T) {
	for _, path := range []string{"/", "/assets/main-4711.js", "/nothing", "/.keep"} {
		header := get(built(), http.MethodGet, path).Header
		policy := header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy %q lacks %s", path, policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy allows what is unsafe: %s", path, policy)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: browsers may guess the type", path)
		}
	}
}

func TestWhatThereIsNotIsNotFound(t *testing.T) {
	for _, path := range []string{"/nothing", "/.keep", "/assets/", "/assets", "/../dashboard.go"} {
		if got := get(built(), http.MethodGet, path).StatusCode; got != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, got)
		}
	}
	res := get(built(), http.MethodPost, "/")
	if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
}

func TestThePageIsAskedForAgainButNotSentAgain(t *testing.T) {
	tag := get(built(), http.MethodGet, "/").Header.Get("ETag")
	if tag == "" {
		t.Fatal("the page has no tag")
	}
	if got := get(built(), http.MethodGet, "/", "If-None-Match", tag).StatusCode; got != http.StatusNotModified {
		t.Errorf("status %d, want 304", got)
	}
}

func TestLargeFilesAreCompressedForThoseWhoAsk(t *testing.T) {
	f := func(accept string, zipped bool) {
		t.Helper()
		res := get(built(), http.MethodGet, "/assets/main-4711.js", "Accept-Encoding", accept)
		var body io.Reader = res.Body
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != zipped {
			t.Fatalf("%q: compressed %v, want %v", accept, got, zipped)
		}
		if zipped {
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(body)
		if err != nil || len(text) < 4000 {
			t.Errorf("%q: %d bytes, %v", accept, len(text), err)
		}
		if res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: a cache would mix the two forms up", accept)
		}
	}
	f("gzip, deflate, br", true)
	f("br;q=1, gzip;q=0.5", true)
	f("", false)
	f("identity", false)
	f("gzip;q=0", false)
	f("gzip; q=0.0", false)
}

func TestWithoutABuiltPageTheAnswerSaysHowToBuildIt(t *testing.T) {
	res := get(handler(fstest.MapFS{".keep": {}}), http.MethodGet, "/")
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "`make build`") {
		t.Errorf("status %d: %s", res.StatusCode, text)
	}
}
