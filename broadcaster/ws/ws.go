package ws

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lxzan/gws"

	"millrace/broadcaster"
	"millrace/telemetry"
)

// Limits bound what a client can send. A zero field takes its default.
type Limits struct {
	Message int // bytes of a client's message; default 64 KiB
	// Frame is the size up to which readings share a message to the client;
	// default 30 KiB, because a common client refuses messages over 32 KiB.
	Frame int
	// Ping is after how much silence a client is pinged; after as much again
	// without an answer it is closed with Silent. Default 25 s.
	Ping time.Duration
}

// Config is what [NewHandler] takes besides the hub.
type Config struct {
	Limits Limits
	// CheckOrigin says whether a page of this origin may connect; nil: pages of
	// the same host, and programs, which send no Origin.
	CheckOrigin func(*http.Request) bool
	// Address is where a request comes from, for the limit of connections per
	// address; nil: the peer of the connection.
	Address func(*http.Request) string
	Logger  *slog.Logger
}

// door is the handler.
type door struct {
	hub      *broadcaster.Hub
	config   Config
	upgrader *gws.Upgrader
}

// patience is how long a client waits for a hub that is still reading the log.
const patience = 10 * time.Second

// readBuffer is the size of a connection's read buffer: clients say little.
const readBuffer = 512

// NewHandler answers GET /v1/ws. Parameters in the query string subscribe at
// once, with the id "". Errors before the upgrade are application/problem+json.
func NewHandler(hub *broadcaster.Hub, c Config) http.Handler {
	c.Limits.Message = cmp.Or(c.Limits.Message, 64<<10)
	c.Limits.Frame = cmp.Or(c.Limits.Frame, 30<<10)
	c.Limits.Ping = cmp.Or(c.Limits.Ping, 25*time.Second)
	if c.CheckOrigin == nil {
		c.CheckOrigin = sameHost
	}
	if c.Address == nil {
		c.Address = broadcaster.PeerAddress
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	d := &door{hub: hub, config: c}
	d.upgrader = gws.NewUpgrader(events{}, &gws.ServerOption{
		ReadBufferSize:     readBuffer,
		ReadMaxPayloadSize: c.Limits.Message,
		CheckUtf8Enabled:   true,
		HandshakeTimeout:   10 * time.Second,
		NewSession:         func() gws.SessionStorage { return nil },
		Logger:             quiet{},
	})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ws", d.serve)
	return mux
}

// quiet drops what the library logs: it would be on standard output.
type quiet struct{}

func (quiet) Error(...any) {}

func sameHost(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

func (d *door) serve(w http.ResponseWriter, r *http.Request) {
	q, subscribe, err := d.admit(w, r)
	if err != nil {
		if r.Context().Err() == nil && telemetry.ProblemOf(err).Status == http.StatusInternalServerError {
			d.config.Logger.Error("a request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
		}
		telemetry.WriteProblem(w, err)
		return
	}
	c := &conn{ping: d.config.Limits.Ping, why: broadcaster.Left}
	c.client, err = d.hub.Attach(broadcaster.ClientConfig{
		Open:    func() (broadcaster.Link, error) { return d.upgrade(c, w, r) },
		Form:    form{most: d.config.Limits.Frame},
		Kind:    "ws",
		Address: d.config.Address(r),
		Bye:     c.bye,
	})
	if err != nil {
		if c.Conn == nil { // else the library has answered
			telemetry.WriteProblem(w, err)
		}
		return
	}
	if subscribe {
		if err := c.client.Subscribe("", q); err != nil {
			c.complain("", err)
		}
	}
	// Not in the handler: what net/http holds for a request would stay. Ends
	// when the connection does, by the hub's stop at the latest.
	go c.read()
}

// admit says whether the request is a handshake (RFC 6455 section 4.2.1) of
// somebody who may connect, and what it subscribes to.
func (d *door) admit(w http.ResponseWriter, r *http.Request) (q broadcaster.Query, subscribe bool, err error) {
	header := r.Header
	switch {
	case r.ProtoMajor != 1 || !token(header, "Connection", "upgrade") || !token(header, "Upgrade", "websocket"):
		w.Header().Set("Upgrade", "websocket")
		return q, false, bad("Upgrade", "this address speaks WebSocket over HTTP/1.1: connect with a WebSocket client, or use /v1/stream")
	case header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return q, false, bad("Sec-WebSocket-Version", "must be 13")
	case !isKey(header.Get("Sec-WebSocket-Key")):
		return q, false, bad("Sec-WebSocket-Key", "must be 16 bytes in base64")
	case !d.config.CheckOrigin(r):
		return q, false, fmt.Errorf("ws: pages of this origin may not connect: %w", telemetry.ErrForbidden)
	}
	values := r.URL.Query()
	subscribe = len(values) > 0 && !(len(values) == 1 && values.Has("token"))
	if q, err = broadcaster.ParseQuery(values, time.Now()); err != nil {
		return q, subscribe, err
	}
	if err = d.hub.Wait(r.Context(), patience); err == nil {
		err = d.hub.Check(r.Context(), &q)
	}
	return q, subscribe, err
}

func isKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// token says whether a header's comma-separated list has a word.
func token(h http.Header, name, word string) bool {
	for _, line := range h.Values(name) {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), word) {
				return true
			}
		}
	}
	return false
}

// upgrade takes the connection over and shakes hands.
func (d *door) upgrade(c *conn, w http.ResponseWriter, r *http.Request) (broadcaster.Link, error) {
	netConn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("ws: take over the connection: %w", err)
	}
	c.Conn = netConn
	// The library would drop what the client has sent right behind its request.
	if n := buffered.Reader.Buffered(); n > 0 {
		early, _ := buffered.Reader.Peek(n) // cannot fail: it is buffered
		c.early = append([]byte(nil), early...)
	}
	c.socket, err = d.upgrader.UpgradeFromConn(c, bufio.NewReaderSize(c, readBuffer), r)
	if err != nil {
		return nil, fmt.Errorf("ws: handshake: %w", err)
	}
	return link{netConn}, nil
}
