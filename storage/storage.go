// Package storage keeps readings in PostgreSQL: the sink that writes them, the
// history that replays them, the query API, the tables of devices and dead
// letters, and the check that log and database agree.
//
//	stream.Consumer ──records──▶ Sink ──one transaction──▶ samples, dead_letters
//	                              │                        log_offsets (the fence)
//	                              └─ series newest times   rollup_dirty ──▶ Rollups
//	broadcaster ◀── History ◀──┐
//	browser     ◀── Handler ◀──┴── telemetry, telemetry_1m, _1h, _1d
//
// Its invariant: whatever a record of the log adds to the database is committed
// in one transaction with the record's offset, by the one process that holds the
// partition. So a record counts once, whatever crashes, and a reader of rows and
// log_offsets in one snapshot knows exactly which records the rows hold.
//
// The schema comes in two layouts with the same views: timescale (hypertable,
// columnstore, continuous aggregates) where the server has the community edition
// of TimescaleDB, and plain (native day partitions, rollups kept here) anywhere
// else. See docs/adr/0006-layouts.md, and 0007-duplicates.md for the sink.
package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"millrace/telemetry"
)

// Layout is the shape of the schema behind the views.
type Layout string

// The layouts there are. LayoutAuto lets [Migrate] choose by what the server
// offers; a database always has one of the others.
const (
	LayoutAuto      Layout = "auto"
	LayoutTimescale Layout = "timescale"
	LayoutPlain     Layout = "plain"
)

// Config is how to connect. The zero Config is usable.
type Config struct {
	MaxConns int32         // connections at most; 0: pgx's own choice, or the URL's pool_max_conns
	Name     string        // application_name that the server shows; "": millrace
	Timeout  time.Duration // for connecting; 0: 10 s
	Log      *slog.Logger  // nil: silent
}

// DB is a database and its connections. It is safe for concurrent use.
type DB struct {
	pool   *pgxpool.Pool
	log    *slog.Logger
	where  string // host:port, for errors
	layout atomic.Pointer[Layout]
}

// Open connects, and reads the layout of a database that was migrated. The error
// names host and port, never the password.
func Open(ctx context.Context, url string, cfg Config) (*DB, error) {
	conf, err := parseConfig(url, cfg)
	if err != nil {
		return nil, err
	}
	db := &DB{log: cfg.Log, where: where(conf.ConnConfig)}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if db.pool, err = pgxpool.NewWithConfig(ctx, conf); err != nil {
		return nil, fmt.Errorf("postgres %s: %w (--postgres)", db.where, err)
	}
	if err := db.readLayout(ctx); err != nil {
		db.pool.Close()
		return nil, err
	}
	return db, nil
}

func parseConfig(url string, cfg Config) (*pgxpool.Config, error) {
	conf, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgconn's error redacts the password only where it can parse the URL.
		return nil, errors.New("postgres: the URL is not one: want postgres://user:password@host:port/database (--postgres)")
	}
	if cfg.MaxConns > 0 {
		conf.MaxConns = cfg.MaxConns
	}
	conf.ConnConfig.ConnectTimeout = cfg.Timeout
	if cfg.Timeout == 0 {
		conf.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	if conf.ConnConfig.RuntimeParams["application_name"] == "" {
		conf.ConnConfig.RuntimeParams["application_name"] = "millrace"
		if cfg.Name != "" {
			conf.ConnConfig.RuntimeParams["application_name"] = cfg.Name
		}
	}
	// Buckets and days are UTC, whatever the server or the role prefers.
	conf.ConnConfig.RuntimeParams["timezone"] = "UTC"
	return conf, nil
}

func where(conf *pgx.ConnConfig) string {
	if strings.HasPrefix(conf.Host, "/") {
		return conf.Host
	}
	return net.JoinHostPort(conf.Host, strconv.Itoa(int(conf.Port)))
}

// Close waits for what runs, and closes the connections.
func (db *DB) Close() { db.pool.Close() }

// Ping says whether the database answers. The error wraps [telemetry.ErrUnavailable].
func (db *DB) Ping(ctx context.Context) error {
	return db.explain(db.pool.Ping(ctx))
}

// Layout of the schema; "" where the database was not migrated yet.
func (db *DB) Layout() Layout {
	if l := db.layout.Load(); l != nil {
		return *l
	}
	return ""
}

func (db *DB) timescale() bool { return db.Layout() == LayoutTimescale }

// readLayout is also the first contact with the server.
func (db *DB) readLayout(ctx context.Context) error {
	var there bool
	if err := db.pool.QueryRow(ctx, `select to_regclass('layout') is not null`).Scan(&there); err != nil {
		return db.explain(err)
	}
	if !there {
		return nil
	}
	var layout Layout
	if err := db.pool.QueryRow(ctx, `select name from layout`).Scan(&layout); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return db.explain(err)
	}
	db.layout.Store(&layout)
	return nil
}

// migrated says so if the schema is not there.
func (db *DB) migrated() error {
	if db.Layout() == "" {
		return fmt.Errorf("postgres %s: the database has no tables yet: run millrace migrate", db.where)
	}
	return nil
}

// explained is an error that explain has been at.
type explained struct{ error }

func (e explained) Unwrap() error { return e.error }

// explain puts the server's address and the remedy to an error of the
// connection, and marks it as one that passes: [telemetry.ErrUnavailable].
// Errors that the server answered stay what they are.
func (db *DB) explain(err error) error {
	var done explained
	var connect *pgconn.ConnectError
	var answer *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done), errors.Is(err, telemetry.ErrFenced):
		return err
	case errors.As(err, &connect):
		return explained{fmt.Errorf("postgres %s: cannot connect: %w: %s (--postgres)", db.where, telemetry.ErrUnavailable, cause(connect))}
	case errors.As(err, &answer):
		if class := answer.Code[:2]; class == "57" || class == "53" || class == "08" {
			return explained{fmt.Errorf("postgres %s: %w: %w", db.where, telemetry.ErrUnavailable, err)}
		}
		return explained{fmt.Errorf("postgres %s: %w", db.where, err)}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, pgx.ErrNoRows):
		return err
	}
	return explained{fmt.Errorf("postgres %s: %w: %w", db.where, telemetry.ErrUnavailable, err)}
}

// cause is the last sentence of a failed connect: pgx's own names user and
// database first, and every address it tried.
func cause(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Message
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return "the server does not speak as PostgreSQL does"
}
