package telemetry

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

// Problem is an HTTP error, application/problem+json (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// RetryAfter is seconds, sent as the header; 0 sends none.
	RetryAfter int `json:"-"`
}

// problems is the one table from the error family to HTTP.
var problems = []struct {
	err     error
	problem Problem
}{
	{ErrUnauthorized, Problem{Title: "Unauthorized", Status: http.StatusUnauthorized}},
	{ErrForbidden, Problem{Title: "Forbidden", Status: http.StatusForbidden}},
	{ErrNotFound, Problem{Title: "Not found", Status: http.StatusNotFound}},
	{ErrMethod, Problem{Title: "Method not allowed", Status: http.StatusMethodNotAllowed}},
	{ErrGone, Problem{Title: "Cursor gone", Status: http.StatusGone}},
	{ErrOverloaded, Problem{Title: "Overloaded", Status: http.StatusServiceUnavailable, RetryAfter: 1}},
	{ErrUnavailable, Problem{Title: "Unavailable", Status: http.StatusServiceUnavailable, RetryAfter: 5}},
	{ErrClosed, Problem{Title: "Shutting down", Status: http.StatusServiceUnavailable, RetryAfter: 5}},
}

// ProblemOf is the HTTP answer to err. An error outside the family is a 500
// whose detail stays in the log.
func ProblemOf(err error) Problem {
	var refusal *Refusal
	var request *BadRequest
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refusal):
		return refusalProblem(refusal)
	case errors.As(err, &request):
		return named(Problem{Title: "Bad parameter", Status: http.StatusUnprocessableEntity}, err)
	case errors.As(err, &large):
		return named(Problem{Title: "Body too large", Status: http.StatusRequestEntityTooLarge}, err)
	}
	for _, p := range problems {
		if errors.Is(err, p.err) {
			return named(p.problem, err)
		}
	}
	return Problem{Type: "about:blank", Title: "Internal error", Status: http.StatusInternalServerError}
}

func refusalProblem(r *Refusal) Problem {
	p := Problem{Title: "Refused: " + string(r.Reason), Status: http.StatusUnprocessableEntity}
	switch r.Reason {
	case ReasonLimit:
		p.Status = http.StatusRequestEntityTooLarge
	case ReasonDenied:
		p.Status = http.StatusForbidden
	}
	return named(p, r)
}

func named(p Problem, err error) Problem {
	p.Type, p.Detail = "about:blank", err.Error()
	return p
}

// WriteProblem answers a request with the problem of err.
func WriteProblem(w http.ResponseWriter, err error) {
	p := ProblemOf(err)
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="millrace"`)
	}
	w.WriteHeader(p.Status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // people read "speed>80" in it
	_ = encoder.Encode(p)        // strings and an int: only the client can fail
}
