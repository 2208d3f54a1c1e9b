package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"millrace/telemetry"
)

// QueryConfig is how the query API works. The zero value is usable.
type QueryConfig struct {
	// Timeout of one statement in the database; 0: 30 s.
	Timeout time.Duration
	// Concurrent requests at most; others are answered 503. 0: 8.
	Concurrent int
	Log        *slog.Logger
	// Now is the clock that relative times count from; nil: time.Now.
	Now func() time.Time
}

// Limits of the query API. Reaching one is an answer that names it.
const (
	defaultPage = 1_000
	maxPage     = 10_000
	pageBytes   = 16 << 20 // a page ends early where its readings are long
	maxBuckets  = 100_000
)

// writeStall is how long a client may take no byte before it is let go: each
// streamed answer holds a snapshot of the database.
const writeStall = 30 * time.Second

type query struct {
	db   *DB
	cfg  QueryConfig
	room chan struct{} // one token a running request
}

// NewHandler answers GET /v1/readings, /v1/series and /v1/devices.
//
// Each answers JSON, NDJSON or CSV, by the parameter format or by Accept. Pages
// end with a Link header (RFC 8288) whose rel="next" is the next page. Errors are
// problem+json (RFC 9457). See docs for the parameters; an unknown one is an error.
func NewHandler(db *DB, cfg QueryConfig) http.Handler {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Concurrent <= 0 {
		cfg.Concurrent = 8
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	q := &query{db: db, cfg: cfg, room: make(chan struct{}, cfg.Concurrent)}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/readings", q.serve(q.readings))
	mux.Handle("GET /v1/series", q.serve(q.series))
	mux.Handle("GET /v1/devices", q.serve(q.devices))
	return mux
}

// serve gives an answer its place, its output and its errors.
func (q *query) serve(answer func(*output, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case q.room <- struct{}{}:
			defer func() { <-q.room }()
		default:
			telemetry.WriteProblem(w, fmt.Errorf("%w: %d queries run already", telemetry.ErrOverloaded, q.cfg.Concurrent))
			return
		}
		form, err := chooseForm(r)
		out := &output{w: w, form: form, control: http.NewResponseController(w)}
		if err == nil {
			err = q.db.migrated()
		}
		if err == nil {
			err = answer(out, r)
		}
		if err == nil {
			err = out.end()
		}
		if err != nil {
			q.fail(out, r, err)
		}
	})
}

func (q *query) fail(out *output, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the client has gone
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) && answer.Code == "57014" {
		err = &telemetry.BadRequest{Parameter: "from", Detail: fmt.Sprintf("the query took longer than %s: ask for a shorter time or fewer devices", q.cfg.Timeout)}
	}
	if telemetry.ProblemOf(err).Status >= 500 {
		q.cfg.Log.Error("query: "+err.Error(), slog.String("path", r.URL.Path))
	}
	if out.started {
		// The only way to tell the client that what it has is not all; net/http
		// documents it for this.
		panic(http.ErrAbortHandler)
	}
	telemetry.WriteProblem(out.w, err)
}

// read runs f in a snapshot with the statement timeout.
func (q *query) read(ctx context.Context, f func(pgx.Tx) error) error {
	return q.db.read(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select set_config('statement_timeout', $1, true)`, strconv.FormatInt(q.cfg.Timeout.Milliseconds(), 10))
		if err != nil {
			return q.db.explain(err)
		}
		return f(tx)
	})
}

// known refuses parameters that are not among names: a misspelt filter would
// otherwise be answered with everything.
func known(values url.Values, names ...string) error {
	for name := range values {
		if !slices.Contains(names, name) {
			return &telemetry.BadRequest{Parameter: name, Detail: "there is no such parameter here: there are " + strings.Join(names, ", ")}
		}
	}
	return nil
}

// span reads from and to: RFC 3339, or relative to now such as -24h or -7d.
func (q *query) span(values url.Values) (from, to time.Time, err error) {
	if from, err = q.moment("from", values.Get("from")); err != nil {
		return from, to, err
	}
	if to, err = q.moment("to", values.Get("to")); err != nil {
		return from, to, err
	}
	if !from.IsZero() && !to.IsZero() && to.Before(from) {
		err = &telemetry.BadRequest{Parameter: "to", Detail: "it is before from: exchange them"}
	}
	return from, to, err
}

func (q *query) moment(parameter, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at.UTC().Truncate(time.Microsecond), nil
	}
	if text == "now" {
		return q.cfg.Now(), nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok && strings.HasPrefix(text, "-") {
		if n, err := strconv.Atoi(days); err == nil && n > -36500 {
			return q.cfg.Now().AddDate(0, 0, n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d < 0 {
		return q.cfg.Now().Add(d), nil
	}
	return time.Time{}, &telemetry.BadRequest{Parameter: parameter, Detail: fmt.Sprintf("%.40q is no time: use 2026-11-21T22:00:00Z, or -24h, or -7d", text)}
}

// limit is the page's size; 0 where there is none given.
func limit(values url.Values) (int, error) {
	text := values.Get("limit")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxPage {
		return 0, &telemetry.BadRequest{Parameter: "limit", Detail: fmt.Sprintf("it must be 1 to %d; without one, format=ndjson and format=csv give all", maxPage)}
	}
	return n, nil
}
