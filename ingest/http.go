package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"millrace/devices"
	"millrace/telemetry"
	"millrace/telemetry/format"
)

// The paths of the HTTP door.
const (
	pathMany = "/v1/telemetry"
	pathOne  = "/v1/devices/{device}/telemetry"
)

// HTTPLimits of the HTTP door. Reaching one is an answer that names it.
type HTTPLimits struct {
	BodyBytes     int64         // of a body as it is sent; default 64 MiB
	ExpandedBytes int64         // of a body after gzip or zstd; default 256 MiB
	DocumentBytes int           // of a JSON document or SenML pack, which is read whole; default 8 MiB
	LineBytes     int           // of a line of NDJSON or line protocol; default 768 KiB
	BufferedBytes int64         // of all bodies in memory at once; default 256 MiB
	Silence       time.Duration // without a byte of the body; default 30 s
	Answer        time.Duration // until the log has acknowledged; default 30 s
}

func (l HTTPLimits) orDefault(gate Limits) HTTPLimits {
	or := func(value *int64, otherwise int64) {
		if *value <= 0 {
			*value = otherwise
		}
	}
	or(&l.BodyBytes, 64<<20)
	or(&l.ExpandedBytes, 256<<20)
	or(&l.BufferedBytes, 256<<20)
	or((*int64)(&l.Silence), int64(30*time.Second))
	or((*int64)(&l.Answer), int64(30*time.Second))
	if l.DocumentBytes <= 0 {
		l.DocumentBytes = 8 << 20
	}
	if l.LineBytes <= 0 {
		l.LineBytes = telemetry.MaxReading
	}
	// The gate's own limit would refuse what is above it anyway.
	l.DocumentBytes = min(l.DocumentBytes, gate.PayloadBytes)
	l.LineBytes = min(l.LineBytes, gate.PayloadBytes)
	return l
}

// HTTPEvents report what happens at the HTTP door; each may be nil.
type HTTPEvents struct {
	// Answered: a request of so many body bytes (as sent) got its answer.
	Answered func(status int, bytes int64, took time.Duration)
}

// HTTPConfig of the HTTP door.
type HTTPConfig struct {
	Gate   *Gate
	Auth   Authenticator // nil lets nobody in
	Limits HTTPLimits
	Events HTTPEvents
	Log    *slog.Logger // nil: silent
}

// NewHandler is the HTTP door: POST /v1/telemetry (many devices) and POST
// /v1/devices/{device}/telemetry (one). It is safe for concurrent use.
//
// The form is told by Content-Type (see [format.ContentTypes]) or by the query
// parameter form; without either, and with what curl -d says by itself, it is
// JSON. precision=s|ms|us|ns is the unit of times in line protocol.
// Content-Encoding may be gzip or zstd. NDJSON and line protocol are read,
// appended and forgotten in parts of a few KB, so their length is bounded only
// by [HTTPLimits].BodyBytes and ExpandedBytes; a JSON document that is broken
// anywhere is refused as a whole.
//
// The answer comes after the log has acknowledged:
//
//	200 {"accepted":2,"refused":[{"index":1,"reason":"time","detail":"…"}]}
//
// with 200 if anything was accepted (or nothing was sent), and otherwise
// application/problem+json with the same two members: 422, or 403 if all was
// denied, or 413 if all was too large. At most [Limits].Refusals are listed,
// "omitted" counts the others. 503 comes with Retry-After: sending everything
// again is safe, because device, metric and time tell a re-send.
func NewHandler(config HTTPConfig) http.Handler {
	h := &handler{
		gate:    config.Gate,
		auth:    config.Auth,
		limits:  config.Limits.orDefault(config.Gate.limits),
		events:  config.Events,
		log:     config.Log,
		origins: http.NewCrossOriginProtection(),
	}
	if h.auth == nil {
		h.auth = nobody{}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathMany, h.post)
	mux.HandleFunc("POST "+pathOne, h.post)
	return mux
}

type nobody struct{}

func (nobody) Authenticate(context.Context, string, string) (devices.Principal, error) {
	return devices.Principal{}, telemetry.ErrUnauthorized
}

type handler struct {
	gate     *Gate
	auth     Authenticator
	limits   HTTPLimits
	events   HTTPEvents
	log      *slog.Logger
	origins  *http.CrossOriginProtection
	buffered atomic.Int64 // bytes of bodies in memory, all requests together
}

func (h *handler) post(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	size := &counter{from: r.Body}
	r.Body = size
	var a answer
	if m, err := h.message(r); err != nil {
		a.err = err
	} else {
		a = h.take(w, r, m)
	}
	if a.err != nil && r.Context().Err() != nil {
		h.log.Debug("an HTTP client went away", slog.String("client", r.RemoteAddr))
	}
	// What is left of the body, the server reads away when we return, and it must
	// not wait for a client that sends no more.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.limits.Silence))
	status := a.write(w)
	if status == http.StatusInternalServerError {
		h.log.Error("HTTP door: internal error", slog.Any("error", a.err))
	}
	if h.events.Answered != nil {
		h.events.Answered(status, size.n, time.Since(began))
	}
}

// message is all that is known before the body is read, or why it will not be.
func (h *handler) message(r *http.Request) (Message, error) {
	m := Message{Source: "http", Client: r.RemoteAddr, Device: r.PathValue("device")}
	// A page from elsewhere, open in a browser on this machine, may send
	// text/plain without asking (CWE-352).
	if err := h.origins.Check(r); err != nil {
		return m, fmt.Errorf("%w: a request from another site's page: %w", telemetry.ErrForbidden, err)
	}
	var err error
	if m.Publisher, err = h.login(r); err != nil {
		return m, err
	}
	if r.Pattern == "POST "+pathOne {
		if err := telemetry.CheckDevice(m.Device); err != nil {
			return m, err
		}
		if !m.Publisher.MayPublish(m.Device) {
			return m, fmt.Errorf("%w: this login may not publish for device %s: log in as that device",
				telemetry.ErrForbidden, m.Device)
		}
	}
	query := r.URL.Query()
	m.Form, m.Precision, err = queryForm(query, r.Header.Get("Content-Type"))
	m.Topic = topicOf(r.URL.Path, m.Form, query.Get("precision"))
	return m, err
}

// login asks who the client is. Without credentials it is whoever the
// authenticator takes a nameless one for.
func (h *handler) login(r *http.Request) (devices.Principal, error) {
	header := r.Header.Get("Authorization")
	user, password, basic := r.BasicAuth()
	scheme, token, _ := strings.Cut(header, " ")
	switch {
	case header == "" || basic:
	case strings.EqualFold(scheme, "Bearer") && token != "":
		password = strings.TrimSpace(token)
	default:
		return devices.Principal{}, fmt.Errorf("%w: send Authorization: Bearer TOKEN, or Basic with device and token",
			telemetry.ErrUnauthorized)
	}
	principal, err := h.auth.Authenticate(r.Context(), user, password)
	if err != nil {
		return principal, fmt.Errorf("ingest: log in: %w", err)
	}
	return principal, nil
}

// errUnsupported is an answer of 415.
var errUnsupported = errors.New("unsupported")

// curlsType is what curl -d says if it is told nothing, whatever the body is; it
// counts as nothing said.
const curlsType = "application/x-www-form-urlencoded"

// queryForm decides the form of a body and the unit of its times.
func queryForm(query url.Values, contentType string) (format.Form, time.Duration, error) {
	precision, err := precisionOf(query.Get("precision"))
	if err != nil {
		return format.None, 0, err
	}
	form := format.JSON
	switch name := query.Get("form"); {
	case name != "":
		if form, err = format.ParseForm(name); err != nil {
			return format.None, 0, err
		}
		if form == format.Value || form == format.Sparkplug {
			return format.None, 0, &telemetry.BadRequest{Parameter: "form", Detail: name + " is for MQTT: its topic says the rest"}
		}
	case contentType != "" && contentType != curlsType:
		var known bool
		if form, known = format.FormOf(contentType); !known {
			return format.None, 0, fmt.Errorf("%w: Content-Type %.100q is none of %s",
				errUnsupported, contentType, strings.Join(format.ContentTypes(), ", "))
		}
	}
	return form, precision, nil
}

func precisionOf(name string) (time.Duration, error) {
	switch name {
	case "":
		return 0, nil
	case "ns", "n":
		return time.Nanosecond, nil
	case "us", "u", "µs":
		return time.Microsecond, nil
	case "ms":
		return time.Millisecond, nil
	case "s":
		return time.Second, nil
	}
	return 0, &telemetry.BadRequest{Parameter: "precision", Detail: fmt.Sprintf("%.40q is none of s, ms, us, ns", name)}
}

// topicOf is what dead letters carry for a topic: a path that, with its query,
// says how to read the bytes again.
func topicOf(path string, form format.Form, precision string) string {
	query := url.Values{}
	if form != format.JSON {
		query.Set("form", form.String())
	}
	if precision != "" {
		query.Set("precision", precision)
	}
	u := url.URL{Path: path, RawQuery: query.Encode()}
	return u.String()
}
