package storage

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"millrace/telemetry"
)

// form of an answer.
type form int

const (
	formJSON   form = iota // one array
	formNDJSON             // a line each
	formCSV
)

var mediaTypes = [...]string{"application/json", "application/x-ndjson", "text/csv; charset=utf-8"}

// chooseForm goes by the parameter format, else by the first type of Accept that
// there is, else it is JSON.
func chooseForm(r *http.Request) (form, error) {
	switch r.URL.Query().Get("format") {
	case "json":
		return formJSON, nil
	case "ndjson":
		return formNDJSON, nil
	case "csv":
		return formCSV, nil
	case "":
	default:
		return 0, &telemetry.BadRequest{Parameter: "format", Detail: "it must be json, ndjson or csv"}
	}
	for _, accept := range strings.Split(r.Header.Get("Accept"), ",") {
		media, _, _ := mime.ParseMediaType(accept)
		switch media {
		case "application/json":
			return formJSON, nil
		case "application/x-ndjson", "application/ndjson", "application/jsonl":
			return formNDJSON, nil
		case "text/csv":
			return formCSV, nil
		}
	}
	return formJSON, nil
}

// output writes items in a form, and nothing before the first flush: until then
// an error can still be answered as one.
type output struct {
	w       http.ResponseWriter
	control *http.ResponseController
	form    form
	header  string // of CSV
	buf     []byte
	items   int
	started bool
}

// flushBytes is when a streamed answer goes out.
const flushBytes = 64 << 10

// item begins an item; the caller appends it to buf and calls done.
func (o *output) item() {
	switch {
	case o.form == formCSV && o.items == 0:
		o.buf = append(o.buf, o.header...)
	case o.form == formJSON && o.items == 0:
		o.buf = append(o.buf, '[')
	case o.form == formJSON:
		o.buf = append(o.buf, ',', '\n')
	}
	o.items++
}

func (o *output) done() {
	if o.form == formNDJSON {
		o.buf = append(o.buf, '\n')
	}
}

// end completes the answer.
func (o *output) end() error {
	switch {
	case o.form == formJSON && o.items == 0:
		o.buf = append(o.buf, "[]\n"...)
	case o.form == formJSON:
		o.buf = append(o.buf, "]\n"...)
	case o.form == formCSV && o.items == 0:
		o.buf = append(o.buf, o.header...)
	}
	return o.flush()
}

// flush sends what there is. A client that takes nothing for writeStall is let go.
func (o *output) flush() error {
	if !o.started {
		o.started = true
		header := o.w.Header()
		header.Set("Content-Type", mediaTypes[o.form])
		header.Set("X-Content-Type-Options", "nosniff")
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(writeStall)) // not every writer has one
	_, err := o.w.Write(o.buf)
	o.buf = o.buf[:0]
	if err == nil {
		_ = o.control.Flush()
	}
	return err
}

// next names the page behind the cursor.
func (o *output) next(r *http.Request, cursor string) {
	values := r.URL.Query()
	values.Set("cursor", cursor)
	u := url.URL{Path: r.URL.Path, RawQuery: values.Encode()}
	o.w.Header().Set("Link", "<"+u.String()+`>; rel="next"`)
}

// quoteCSV appends a field as RFC 4180 section 2 has it.
func quoteCSV(dst []byte, text string) []byte {
	if !strings.ContainsAny(text, "\",\r\n") {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(text, `"`, `""`)...)
	return append(dst, '"')
}

// quoteJSON appends a string as the canonical form has it.
func quoteJSON(dst []byte, text string) []byte { return telemetry.Text(text).AppendJSON(dst) }

// appendFloat appends a number that may be null: a sum may overflow.
func appendFloat(dst []byte, f *float64, null string) []byte {
	if f == nil || *f-*f != 0 {
		return append(dst, null...)
	}
	return telemetry.Number(*f).AppendJSON(dst)
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
