// Package mqttd is the MQTT door: 3.1, 3.1.1 and 5. Sessions, subscriptions and
// forwarding are mochi-mqtt's; every message on a telemetry topic goes through
// the gate into the log.
//
//	client ─▶ accept ─▶ conn ─┬─ telemetry ─▶ Gate ─▶ log
//	          caps,    screen │                        │ kept
//	          panics          │   PUBACK, PUBREC ◀─────┤ in order of receipt
//	                          │                        ▼
//	                          └─ the rest ──▶ mochi ◀─ forward ─▶ subscribers
//
// Its invariant: PUBACK and PUBREC of a telemetry message leave only after the
// gate said that the log has acknowledged it; one whose append failed is never
// acknowledged, its client is closed and sends it again. A message the gate
// refused is acknowledged, with a reason for MQTT 5 clients, because it is kept
// as a dead letter.
//
// Decisions, with their reasons, are in docs/adr/0005-mqtt-broker.md.
package mqttd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"millrace/ingest"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Server is the MQTT door.
type Server struct {
	config   Config
	limits   Limits
	log      *slog.Logger
	listener net.Listener
	mochi    *mqtt.Server

	work   context.Context // of appends: ends when the door has waited long enough
	cancel context.CancelFunc
	ends   atomic.Bool // no more is read

	room        *room
	reads       pool
	writes      pool
	sessions    sessions
	subscribers subscribers
	conns       registry

	serving  sync.WaitGroup // connections
	appends  sync.WaitGroup // messages at the gate
	flushers sync.WaitGroup // goroutines that write acknowledgements
}

// Listen binds the address and makes the door; nobody is let in before
// [Server.Run]. An address that cannot be bound is an error that names the flag.
func Listen(config Config) (*Server, error) {
	if config.Gate == nil || config.Auth == nil || config.Patterns == nil {
		return nil, errors.New("mqttd: a gate, an authenticator and patterns are needed")
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	listener, err := net.Listen("tcp", config.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("mqttd: %s is taken by another process: stop it or choose another address with --mqtt", config.Addr)
	}
	if err != nil {
		return nil, fmt.Errorf("mqttd: cannot listen on %s; choose another address with --mqtt: %w", config.Addr, err)
	}
	s := &Server{
		config: config, limits: config.Limits.withDefaults(), log: config.Log, listener: listener,
		reads: pool{size: largeBuffer}, writes: pool{size: 1 << 10},
		sessions: sessions{of: make(map[string]*session)},
		conns:    registry{by: make(map[string]int), all: make(map[*conn]struct{})},
	}
	s.subscribers.by = make(map[string]map[string]struct{})
	s.sessions.most = s.limits.Sessions
	s.room = newRoom(s.limits.BufferedBytes)
	s.work, s.cancel = context.WithCancel(context.Background())
	s.mochi = s.newMochi()
	if err := s.mochi.AddHook(&hook{server: s}, nil); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("mqttd: %w", err)
	}
	return s, nil
}

func (s *Server) newMochi() *mqtt.Server {
	can := mqtt.NewDefaultServerCapabilities()
	can.MaximumMessageExpiryInterval = 0 // or it adds an expiry of a day to all it forwards
	can.MaximumClientWritesPending = int32(s.limits.Forwards)
	can.MaximumSessionExpiryInterval = uint32(s.limits.Session / time.Second)
	can.MaximumPacketSize = uint32(max(s.limits.PacketBytes, s.limits.LoginBytes))
	can.MaximumInflight = uint16(s.limits.Kept)
	can.ReceiveMaximum = uint16(s.limits.InFlight)
	can.TopicAliasMaximum = uint16(s.limits.Aliases)
	can.Compatibilities.NoInheritedPropertiesOnAck = true
	return mqtt.New(&mqtt.Options{
		Capabilities:             can,
		ClientNetReadBufferSize:  16, // the least there is: conn has the buffer
		ClientNetWriteBufferSize: 2 << 10,
		Logger:                   slog.New(quiet{s.log.Handler()}),
		SysTopicResendInterval:   30,
	})
}

// Addr is the address that is listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Connections is the number of connections there are.
func (s *Server) Connections() int { return s.conns.len() }

// Close lets go of the address of a door that is not run.
func (s *Server) Close() error {
	s.cancel()
	return s.listener.Close()
}

// Run lets clients in until ctx is cancelled. Then it takes no more connections
// and reads no more messages, waits up to [Limits].Drain for the appends under
// way, acknowledges them, closes the connections and returns nil. It is called
// once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.mochi.Serve(); err != nil {
		_ = s.listener.Close()
		return fmt.Errorf("mqttd: %w", err)
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		s.acceptAll(ctx)
	}()
	<-ctx.Done()
	s.ends.Store(true)
	_ = s.listener.Close()
	<-accepting
	s.drain()
	if err := s.mochi.Close(); err != nil {
		return fmt.Errorf("mqttd: %w", err)
	}
	return nil
}

// drain waits until every connection has its acknowledgements and is gone.
func (s *Server) drain() {
	s.sessions.stopWills()
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.serving.Wait()
		s.appends.Wait()
		s.flushers.Wait()
	}()
	s.conns.each(func(c *conn) { c.interrupt() })
	timer := time.NewTimer(s.limits.Drain)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
		s.log.Warn("appends did not end in time; their clients will send again", "limit", s.limits.Drain)
	}
	s.cancel()
	s.room.close()
	s.conns.each(func(c *conn) { _ = c.Close() })
	<-over
}

func (s *Server) stopping() bool { return s.ends.Load() }

// Disconnect closes the connections of a device: its login was taken back. Safe
// for concurrent use; it does not block.
func (s *Server) Disconnect(device string) {
	for _, c := range s.sessions.held(device) {
		if !c.principal.Open {
			go c.end(packets.ErrNotAuthorized)
		}
	}
}

func (s *Server) accept(m ingest.Message, done func(ingest.Outcome)) {
	s.appends.Add(1)
	s.config.Gate.Accept(s.work, m, done)
}

func (s *Server) refused(limit string) {
	if s.config.Events.Refused != nil {
		s.config.Events.Refused(limit)
	}
}
