package telemetry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"millrace/telemetry"
)

func TestCursorText(t *testing.T) {
	f := func(c telemetry.Cursor) {
		t.Helper()
		got, err := telemetry.ParseCursor(c.String())
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v came back as %+v, %v", c, got, err)
		}
	}
	f(telemetry.Cursor{Log: 1 << 63, Next: []int64{0, 1, 127, 128, 1 << 40}})
	f(telemetry.Cursor{Time: at})
	f(telemetry.Cursor{Time: at, Device: "truck-7"})
	f(telemetry.Cursor{Time: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)})
}

func TestCursorAdvances(t *testing.T) {
	c := telemetry.Cursor{Next: []int64{5, 0}}
	p := telemetry.Position{Partition: 0, Offset: 7}
	if c.Seen(p) {
		t.Error("a record ahead of the cursor counts as seen")
	}
	later := c.Clone()
	later.Advance(p)
	if !later.Seen(p) || c.Seen(p) {
		t.Error("advancing a clone must move the clone alone")
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(telemetry.Cursor{Log: 7, Next: []int64{1, 2, 300}}.String())
	f.Add(telemetry.Cursor{Time: at, Device: "a"}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := telemetry.ParseCursor(text)
		var wrong *telemetry.BadRequest
		if err != nil {
			if !errors.As(err, &wrong) {
				t.Fatalf("%q: %v is not a BadRequest", text, err)
			}
			return
		}
		if c.String() != text {
			t.Fatalf("%q has a second form %q", text, c.String())
		}
	})
}

func TestProblems(t *testing.T) {
	f := func(err error, status int, retry string) {
		t.Helper()
		w := httptest.NewRecorder()
		telemetry.WriteProblem(w, err)
		if w.Code != status || w.Header().Get("Retry-After") != retry {
			t.Errorf("%v: status %d, Retry-After %q; want %d, %q", err, w.Code, w.Header().Get("Retry-After"), status, retry)
		}
		if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("content type %q", got)
		}
	}
	f(telemetry.Refuse(telemetry.ReasonMalformed, "x"), 422, "")
	f(telemetry.Refuse(telemetry.ReasonLimit, "x"), 413, "")
	f(telemetry.Refuse(telemetry.ReasonDenied, "x"), 403, "")
	f(&telemetry.BadRequest{Parameter: "where", Detail: "x"}, 422, "")
	f(&http.MaxBytesError{Limit: 1}, 413, "")
	f(errors.Join(errors.New("hub"), telemetry.ErrGone), 410, "")
	f(telemetry.ErrOverloaded, 503, "1")
	f(telemetry.ErrUnauthorized, 401, "")
	f(errors.New("password=hunter2"), 500, "")
	w := httptest.NewRecorder()
	telemetry.WriteProblem(w, errors.New("password=hunter2"))
	if strings.Contains(w.Body.String(), "hunter2") {
		t.Error("an internal error's text reached the client")
	}
}
