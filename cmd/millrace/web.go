package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"millrace/devices"
	"millrace/telemetry"
)

// web is the one HTTP listener of a process and what each role put on it.
type web struct {
	mux      *http.ServeMux
	pages    http.Handler // what no route answers, outside /v1; nil: nothing
	listener net.Listener
	log      *slog.Logger
	routes   []route
	// screens says who may read: nil lets everybody.
	screens func(r *http.Request) error
	// local: nobody logs in, because only this machine can reach the listener.
	// Then a request must also mean this machine: a page of another site whose
	// name was pointed at 127.0.0.1 has that name in Host (DNS rebinding).
	local bool
}

// route is one line of GET /v1.
type route struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	What   string `json:"what"`
}

func newWeb(log *slog.Logger) *web {
	w := &web{mux: http.NewServeMux(), log: log}
	w.mux.HandleFunc("GET /v1", w.index)
	return w
}

// ServeHTTP finds the route, and says in the API's words what is wrong with a
// request that has none.
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if w.local && !localHost(r.Host) {
		telemetry.WriteProblem(rw, fmt.Errorf("%w: without --auth only this machine may ask, under the name localhost or its address", telemetry.ErrForbidden))
		return
	}
	// URL.Query drops what it cannot parse, and a filter with it.
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		telemetry.WriteProblem(rw, &telemetry.BadRequest{Parameter: "query", Detail: err.Error() + ": separate parameters by & and escape others as %XX"})
		return
	}
	if _, pattern := w.mux.Handler(r); pattern != "" {
		w.mux.ServeHTTP(rw, r)
		return
	}
	if methods := w.methods(r); len(methods) > 0 {
		rw.Header().Set("Allow", strings.Join(methods, ", "))
		telemetry.WriteProblem(rw, fmt.Errorf("%w: %s takes %s", telemetry.ErrMethod, r.URL.Path, strings.Join(methods, ", ")))
		return
	}
	if w.pages != nil && !strings.HasPrefix(r.URL.Path, "/v1/") {
		w.pages.ServeHTTP(rw, r)
		return
	}
	telemetry.WriteProblem(rw, fmt.Errorf("%w: %s; GET /v1 lists what there is", telemetry.ErrNotFound, r.URL.Path))
}

// methods that the request's path takes.
func (w *web) methods(r *http.Request) []string {
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := *r
		other.Method = method
		if _, pattern := w.mux.Handler(&other); pattern != "" {
			methods = append(methods, method)
		}
	}
	return methods
}

func localHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host == "" || isLoopback(strings.Trim(host, "[]"))
}

// door adds a route that checks for itself who may use it.
func (w *web) door(pattern, what string, h http.Handler) {
	method, path, _ := strings.Cut(pattern, " ")
	w.routes = append(w.routes, route{method, path, what})
	w.mux.Handle(pattern, h)
}

// screen adds a route for those who read.
func (w *web) screen(pattern, what string, h http.Handler) {
	w.door(pattern, what, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.screens != nil {
			if err := w.screens(r); err != nil {
				telemetry.WriteProblem(rw, err)
				return
			}
		}
		h.ServeHTTP(rw, withoutToken(r))
	}))
}

// withoutToken keeps the token out of what handlers see, log and complain of.
func withoutToken(r *http.Request) *http.Request {
	query := r.URL.Query()
	if !query.Has("token") {
		return r
	}
	query.Del("token")
	r = r.Clone(r.Context())
	r.URL.RawQuery, r.RequestURI = query.Encode(), ""
	return r
}

// page adds what answers every path outside /v1. Its files hold nothing secret.
func (w *web) page(what string, h http.Handler) {
	w.routes = append(w.routes, route{http.MethodGet, "/", what})
	w.pages = h
}

func (w *web) index(rw http.ResponseWriter, _ *http.Request) {
	rw.Header().Set("Content-Type", "application/json")
	routes := slices.Clone(w.routes)
	slices.SortStableFunc(routes, func(a, b route) int { return strings.Compare(a.Path, b.Path) })
	encoder := json.NewEncoder(rw)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(map[string]any{"name": "millrace", "version": version, "routes": routes})
}

// listen binds the listener, so that a taken port is known before anything runs.
func (w *web) listen(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return portError("--http", addr, err)
	}
	w.listener = listener
	return nil
}

// portError says what to do about an address that cannot be listened at.
func portError(flag, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %s is taken by another program: end it, or choose another port with %s", flag, addr, flag)
	}
	return fmt.Errorf("%s: cannot listen at %s: %w", flag, addr, err)
}

// Run serves until ctx is done and every request under way has its answer.
func (w *web) Run(ctx context.Context) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           w,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(w.listener) }() // ended by Shutdown below
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		_ = server.Close() // a client that never ends its request holds nobody up
	}
	<-ended
	return nil
}

// readers lets in who has a token of 'millrace token', as Bearer or, because
// EventSource and WebSocket cannot set headers, as ?token=.
func readers(key devices.TokenKey) func(r *http.Request) error {
	return func(r *http.Request) error {
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !bearer {
			token = r.URL.Query().Get("token")
		}
		if token == "" {
			return fmt.Errorf("%w: send a token of 'millrace token' as Authorization: Bearer or ?token=", telemetry.ErrUnauthorized)
		}
		_, err := key.Check(token, time.Now())
		return err
	}
}
