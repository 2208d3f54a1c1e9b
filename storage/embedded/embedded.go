// Package embedded runs a PostgreSQL server as a child of this process, so
// that one command is a whole Millrace.
//
//	Start ──▶ binaries: on the machine, else fetched once
//	      ──▶ place:    DATA/postgres, or where the server's user can go
//	      ──▶ database: initdb, role and database "millrace", a password made once
//	      ──▶ postgres, supervised: started again after a crash
//	Close ──▶ fast shutdown, bounded
//
// Its invariant: at most one server runs on a database, and none outlives the
// process that started it for longer than its shutdown takes; where that
// process was killed, the next one takes over.
//
// PostgreSQL refuses to run as root. Under root the server gets another user,
// and if that user cannot reach the data folder (a clone in root's home), its
// files go to a folder of the system, which a note in the data folder names.
// Nobody's home is ever opened up.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// name of the role and of the database.
const name = "millrace"

// Config says where the server listens and keeps its files. The zero value of
// every field but Dir has a default.
type Config struct {
	Listen    string       // loopback address, "127.0.0.1:5433" if empty; port 0 takes a free one
	Dir       string       // the database, usually DATA/postgres; the password is beside it, in Dir.password
	Binaries  string       // folder with postgres and initdb; empty: found on the machine, else fetched
	User      string       // under root: who runs the server; empty: postgres, millrace or nobody, the first there is
	Elsewhere string       // under root: where files go that the user could not reach in Dir, "/var/lib/millrace" if empty
	Mirror    string       // repository to fetch binaries from in place of the usual one
	Log       *slog.Logger // nil: silent
	Progress  func(string) // told of each step that takes time, in words for the user; nil: silent
	Events    Events
}

// Events are told what happens to the server; nil callbacks are ignored. They
// are called one at a time and must not block.
type Events struct {
	Up   func(took time.Duration) // it answers, so long after it was started
	Down func(err error)          // it ended without being asked to; it will be started again
}

// Server is a running PostgreSQL. Its methods are safe for concurrent use.
type Server struct {
	config   Config
	owner    owner
	install  install
	dir      string // the database itself
	password string
	host     string
	port     string
	unlock   func() // may be called again

	closing chan struct{} // closed by Close
	ended   chan struct{} // closed when no server is left and none will be started
	once    sync.Once     // closes closing
}

// Start returns a server that accepts connections. What stands in the way is
// an error that says what to do about it. The server stays until Close, or
// until Run returns; ctx limits the start alone, and its end is in the error.
func Start(ctx context.Context, config Config) (*Server, error) {
	s, err := prepare(config)
	if err != nil {
		return nil, fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	if err := s.open(ctx); err != nil {
		s.unlock()
		if why := ctx.Err(); why != nil && !errors.Is(err, why) {
			err = fmt.Errorf("%w: %w", why, err) // a child that was killed does not tell who did it
		}
		return nil, fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	return s, nil
}

// prepare settles who and where, and takes the lock on the database.
func prepare(config Config) (*Server, error) {
	config = config.withDefaults()
	host, port, err := parseListen(config.Listen)
	if err != nil {
		return nil, err
	}
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(config.Dir), 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	who, err := ownerOf(config)
	if err != nil {
		return nil, err
	}
	where, err := settle(config, who)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(where + ".lock")
	if err != nil {
		return nil, err
	}
	return &Server{
		config: config, owner: who, dir: where, host: host, port: port, unlock: unlock,
		closing: make(chan struct{}), ended: make(chan struct{}),
	}, nil
}

// open brings the locked database up.
func (s *Server) open(ctx context.Context) (err error) {
	s.sweep(time.Now())
	if s.install, err = s.findInstall(ctx); err != nil {
		return err
	}
	if err := s.takeOver(ctx); err != nil {
		return err
	}
	if err := s.claimPort(); err != nil {
		return err
	}
	if err := s.initialize(ctx); err != nil {
		return err
	}
	started := make(chan error, 1)
	go s.supervise(started) // ended by Close
	select {
	case err := <-started:
		return err
	case <-ctx.Done():
		s.stop()
		return ctx.Err()
	}
}

// URL is how to connect, password included.
func (s *Server) URL() string { return connectionURL(s.host, s.port, s.password) }

// Folder is where the database is: Config.Dir, or the folder that the note
// beside it names.
func (s *Server) Folder() string { return s.dir }

// User is the name of the user who runs the server.
func (s *Server) User() string { return s.owner.name }

// Run keeps the server until ctx is done, closes it then, and returns nil. A
// crash of the server is not an error: it is started again.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.ended:
	}
	return s.Close()
}

// Close shuts the server down: fast, that is with its connections cut and its
// data written out; after five seconds at once, which loses nothing either but
// makes the next start read the write-ahead log. It may be called again.
func (s *Server) Close() error {
	s.stop()
	return nil
}

func (s *Server) stop() {
	s.once.Do(func() { close(s.closing) })
	<-s.ended
	s.unlock()
}

// Find is the URL of the server that another process runs for the data folder
// of dir (as in [Config].Dir).
func Find(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	where, err := readNote(dir)
	if err != nil {
		return "", fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	state, err := readPostmaster(where)
	if err != nil || !alive(state.pid) {
		return "", fmt.Errorf("embedded PostgreSQL: none is running for the data folder %s: "+
			"start 'millrace up' there, or name another database with --postgres", filepath.Dir(dir))
	}
	password, err := readPassword(dir)
	if err != nil {
		return "", fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	return connectionURL(state.host, state.port, password), nil
}

func connectionURL(host, port, password string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(name, password), Host: net.JoinHostPort(host, port),
		Path: "/" + name, RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:5433"
	}
	if c.Elsewhere == "" {
		c.Elsewhere = "/var/lib/millrace"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Events.Up == nil {
		c.Events.Up = func(time.Duration) {}
	}
	if c.Events.Down == nil {
		c.Events.Down = func(error) {}
	}
	return c
}

// parseListen takes loopback addresses only: whoever reaches the port can try
// passwords, and a database for others to reach is one they run themselves.
func parseListen(listen string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(listen)
	if err != nil {
		return "", "", fmt.Errorf("--postgres-listen %q is not host:port: %w", listen, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", "", fmt.Errorf("--postgres-listen %q is not a loopback address: use 127.0.0.1:port, "+
			"or run a PostgreSQL of your own and name it with --postgres", listen)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("--postgres-listen %q: no port %q", listen, port)
	} else if n == 0 {
		port, err = freePort(host)
		return host, port, err
	}
	return host, port, nil
}

func freePort(host string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		panic("impossible, because a listener's address is host:port: " + err.Error())
	}
	return port, l.Close()
}

// claimPort tells a port that is taken before anything is started on it.
func (s *Server) claimPort() error {
	addr := net.JoinHostPort(s.host, s.port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w: stop what listens there, or choose another address with --postgres-listen", addr, err)
	}
	return l.Close()
}
