package telemetry

import (
	"errors"
	"fmt"
)

// The error family. A package wraps one of these once, with the operation and
// the subject; doors translate them into protocol codes (see [ProblemOf]).
var (
	// ErrOverloaded: there is no room now. Try again later; nothing was taken.
	// MQTT 5 answers 0x97, HTTP 503 with Retry-After.
	ErrOverloaded = errors.New("overloaded: no room to buffer more; try again later")
	// ErrUnavailable: a log or database is away, or did not answer in time. What
	// was handed over may be kept all the same. HTTP 503.
	ErrUnavailable = errors.New("unavailable")
	// ErrGone: a cursor points at what the log no longer holds, or at another
	// log. HTTP 410.
	ErrGone = errors.New("the cursor is gone")
	// ErrClosed: the thing was closed; nothing was taken.
	ErrClosed = errors.New("closed")
	// ErrUnauthorized: who are you? HTTP 401, MQTT 5 0x86.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden: known, but not allowed. HTTP 403, MQTT 5 0x87.
	ErrForbidden = errors.New("forbidden")
	// ErrFenced: another process has claimed the partition; drop it.
	ErrFenced = errors.New("fenced: another process has claimed the partition")
	// ErrNotFound: there is no such thing. HTTP 404.
	ErrNotFound = errors.New("not found")
	// ErrMethod: there is such a path, but not for this method. HTTP 405; the
	// answer's Allow header lists those there are (RFC 9110 section 15.5.6).
	ErrMethod = errors.New("method not allowed")
)

// Refusal is the error for input that cannot be accepted: whose fault it is, is
// clear, and sending the same again does not help. HTTP 422, MQTT 5 0x99; with
// ReasonLimit 413 and 0x95; with ReasonDenied 403 and 0x87.
type Refusal struct {
	Reason Reason
	Detail string
}

// Refuse makes a *[Refusal]; the detail names the thing and the remedy.
func Refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func (r *Refusal) Error() string { return r.Detail }

// BadRequest is the error for a parameter that a caller got wrong: HTTP 422.
type BadRequest struct {
	Parameter string
	Detail    string
}

func (b *BadRequest) Error() string { return b.Parameter + ": " + b.Detail }
