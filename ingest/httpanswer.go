package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"millrace/telemetry"
	"millrace/telemetry/format"
)

// answer collects what became of a request's parts.
type answer struct {
	accepted int
	items    int // in the parts before
	refused  []Refused
	omitted  int
	err      error
}

// add takes a part's outcome in; its indices count on from the parts before.
func (a *answer) add(o Outcome, most int) {
	a.err = o.Err
	a.accepted += o.Accepted
	for _, r := range o.Refused {
		if len(a.refused) == most {
			a.omitted++
			continue
		}
		a.refused = append(a.refused, Refused{Index: a.items + r.Index, Err: r.Err})
	}
	a.omitted += o.Omitted
	a.items += o.Accepted + len(o.Refused) + o.Omitted
}

// refusedItem is a refused item in an answer.
type refusedItem struct {
	Index  int              `json:"index"`
	Reason telemetry.Reason `json:"reason"`
	Detail string           `json:"detail"`
}

type counts struct {
	Accepted int           `json:"accepted"`
	Refused  []refusedItem `json:"refused"`
	Omitted  int           `json:"omitted,omitempty"`
}

// problem is a problem (RFC 9457) with the counts as extension members.
type problem struct {
	telemetry.Problem
	counts
}

// write answers the request and says with which status.
func (a *answer) write(w http.ResponseWriter) int {
	c := counts{Accepted: a.accepted, Refused: []refusedItem{}, Omitted: a.omitted}
	for _, r := range a.refused {
		c.Refused = append(c.Refused, refusedItem{r.Index, r.Err.Reason, r.Err.Detail})
	}
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	if a.err == nil && (a.accepted > 0 || len(a.refused) == 0) {
		header.Set("Content-Type", "application/json")
		return send(w, http.StatusOK, c)
	}
	p := a.problem()
	header.Set("Content-Type", "application/problem+json")
	switch p.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer realm="millrace", Basic realm="millrace", charset="UTF-8"`)
	case http.StatusUnsupportedMediaType:
		header.Set("Accept", strings.Join(format.ContentTypes(), ", "))
		header.Set("Accept-Encoding", "gzip, zstd")
	case http.StatusRequestTimeout:
		header.Set("Connection", "close")
	}
	if p.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	return send(w, p.Status, problem{p, c})
}

func send(w http.ResponseWriter, status int, body any) int {
	text, err := json.Marshal(body)
	if err != nil {
		panic("impossible, because counts and strings can be marshalled: " + err.Error())
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may be gone
	return status
}

func (a *answer) problem() telemetry.Problem {
	if a.err == nil {
		return a.noneAccepted()
	}
	p := telemetry.ProblemOf(a.err)
	switch {
	case errors.Is(a.err, errUnsupported):
		p = telemetry.Problem{Title: "Unsupported media type", Status: http.StatusUnsupportedMediaType, Detail: a.err.Error()}
	case errors.Is(a.err, errSilent):
		p = telemetry.Problem{Title: "Request timeout", Status: http.StatusRequestTimeout, Detail: a.err.Error()}
	}
	p.Type = "about:blank"
	if p.Status == http.StatusServiceUnavailable {
		p.Detail += "; some of it may be kept all the same. Sending all of it again is safe where readings carry their own time: device, metric and time tell a re-send"
	}
	if a.accepted > 0 {
		p.Detail += fmt.Sprintf("; %d readings before this are accepted", a.accepted)
	}
	return p
}

// noneAccepted is the problem of a request of which every item was refused: by
// their common reason if they have one.
func (a *answer) noneAccepted() telemetry.Problem {
	first := a.refused[0].Err
	for _, r := range a.refused[1:] {
		if r.Err.Reason != first.Reason {
			first = nil
			break
		}
	}
	p := telemetry.Problem{Status: http.StatusUnprocessableEntity}
	if first != nil {
		p = telemetry.ProblemOf(first)
	}
	p.Type, p.Title = "about:blank", "Nothing was accepted"
	p.Detail = fmt.Sprintf("%d refused; the first: %s", len(a.refused)+a.omitted, a.refused[0].Err.Detail)
	return p
}
