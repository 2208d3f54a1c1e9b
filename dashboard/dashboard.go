// Package dashboard is Millrace's web page, inside the binary. TypeScript under
// src/ is built by Vite into dist/, which is embedded here.
//
//	src/*.ts ──vite──▶ dist/ ──embed──▶ Handler ──▶ the browser
//	                                      the page ◀── /v1/ws, /v1/readings
//
// Its invariant: the page is whole by itself. It loads nothing from another
// host, runs no inline script and no inline style, and the policy that
// [Handler] sends holds the browser to that.
//
// What tests and tools may rely on in the page stands in README.md beside this
// file.
package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// dist holds what Vite built. In a fresh clone it holds .keep alone.
//
//go:embed all:dist
var dist embed.FS

// policy lets the page load from its own host only. 'self' in connect-src also
// covers the WebSocket of the same host and port (CSP level 3). Chart and map
// set styles through the CSSOM, which style-src does not concern.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const notBuilt = "The dashboard is not in this binary: run `make build`, which builds the page with npm, and start again.\n"

// file is one built file. The embedded ones never change, so the compressed
// form and the tag are made once, when somebody first asks.
type file struct {
	contentType string
	immutable   bool
	plain       []byte
	tag         func() string
	zipped      func() []byte // nil if compressing does not pay
}

// Handler serves the page at / and its files at /assets/…; all else is 404. It
// reads only what is embedded, holds no state a request changes, and is safe for
// concurrent use. Hashed assets may be cached for ever; the page itself is asked
// for again each time (RFC 9111, no-cache) and answered 304 if it is the same.
// Without a built page it answers 503 and says how to build it.
func Handler() http.Handler {
	built, err := fs.Sub(dist, "dist")
	if err != nil {
		panic("impossible, because the directory is embedded: " + err.Error())
	}
	return handler(built)
}

func handler(built fs.FS) http.Handler {
	files := load(built)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer") // the address may carry a token
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "the dashboard answers GET and HEAD only", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		switch f, ok := files[name]; {
		case ok:
			f.serve(w, r)
		case name == "index.html":
			header.Set("Cache-Control", "no-store")
			http.Error(w, notBuilt, http.StatusServiceUnavailable)
		default:
			http.NotFound(w, r)
		}
	})
}

// load names the files that are served. Hidden ones, .keep among them, are not.
func load(built fs.FS) map[string]*file {
	files := map[string]*file{}
	_ = fs.WalkDir(built, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			return err
		}
		plain, err := fs.ReadFile(built, name)
		files[name] = newFile(name, plain)
		return err
	})
	return files
}

func newFile(name string, plain []byte) *file {
	f := &file{contentType: typeOf(name), plain: plain, immutable: strings.HasPrefix(name, "assets/")}
	f.tag = sync.OnceValue(func() string {
		sum := sha256.Sum256(plain)
		return base64.RawURLEncoding.EncodeToString(sum[:12])
	})
	if len(plain) > 1<<10 && f.contentType != "image/png" {
		f.zipped = sync.OnceValue(func() []byte { return zip(plain) })
	}
	return f
}

// typeOf goes by the extension. The machine's own table is not asked: it differs
// from machine to machine, and with nosniff a wrong type breaks the page.
func typeOf(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".json":
		return "application/json"
	case ".png":
		return "image/png"
	case ".svg":
		return "image/svg+xml"
	}
	return "application/octet-stream"
}

func zip(plain []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(plain) // a bytes.Buffer takes everything
	_ = z.Close()
	return b.Bytes()
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	header.Set("Cache-Control", "no-cache")
	if f.immutable {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body, tag := f.plain, f.tag()
	if f.zipped != nil {
		header.Set("Vary", "Accept-Encoding")
		if r.Header.Get("Range") == "" && acceptsGzip(r.Header.Get("Accept-Encoding")) {
			header.Set("Content-Encoding", "gzip")
			body, tag = f.zipped(), tag+"-gz"
		}
	}
	header.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reads RFC 9110 section 12.5.3 as far as it matters here: gzip is
// named, and not with the weight 0.
func acceptsGzip(accept string) bool {
	for coding := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			weight = strings.TrimSpace(weight)
			return !strings.HasPrefix(weight, "q=0") || strings.Trim(weight, "q=0.") != ""
		}
	}
	return false
}
