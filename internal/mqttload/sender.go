package mqttload

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// Packet types (MQTT 3.1.1 table 2.1), as the first byte of their packets.
const (
	connack  = 0x20
	publish  = 0x30
	puback   = 0x40
	pubrec   = 0x50
	pubrel   = 0x62
	pubcomp  = 0x70
	pingreq  = 0xc0
	pingresp = 0xd0
)

// maxSamples bounds the latencies a connection remembers.
const maxSamples = 4096

// sender is one connection.
type sender struct {
	config Config
	index  int
	net    net.Conn
	topic  string

	until time.Time // send no more behind it; zero: total counts
	total int       // messages to send

	window []byte // the packets with ids 1 to InFlight, if they are always the same
	size   int    // of one of them
	out    []byte
	in     []byte
	held   int // bytes in in

	sent, acked int
	released    int // QoS 2: PUBREC came, in order
	sentAt      []time.Time
	latencies   []time.Duration
}

func dial(ctx context.Context, config Config, index int) (*sender, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", config.Addr)
	if err != nil {
		return nil, err
	}
	s := &sender{config: config, index: index, net: c, topic: config.Topic(index), in: make([]byte, 8<<10)}
	if err := s.login(); err != nil {
		_ = c.Close()
		return nil, err
	}
	s.total = config.Total / config.Connections
	if index < config.Total%config.Connections {
		s.total++
	}
	s.sentAt = make([]time.Time, config.InFlight)
	if config.Payload == nil {
		s.encodeWindow()
	}
	return s, nil
}

func (s *sender) close() {
	if s != nil {
		_ = s.net.Close()
	}
}

// login sends CONNECT and takes CONNACK.
func (s *sender) login() error {
	user, password := s.config.Login(s.index)
	body := append(text(nil, "MQTT"), 4, 2, 0, 0) // level 4, clean session, no keepalive
	body = text(body, s.config.ClientID(s.index))
	if user != "" {
		body[7] |= 0x80
		body = text(body, user)
	}
	if password != "" {
		body[7] |= 0x40
		body = text(body, password)
	}
	packet := append(length([]byte{0x10}, len(body)), body...)
	_ = s.net.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := s.net.Write(packet); err != nil {
		return err
	}
	if _, err := io.ReadFull(s.net, s.in[:4]); err != nil {
		return err
	}
	if s.in[0] != connack || s.in[3] != 0 {
		return fmt.Errorf("the broker refused the CONNECT: % x", s.in[:4])
	}
	return s.net.SetDeadline(time.Time{})
}

// start begins the clock.
func (s *sender) start(now time.Time) {
	if s.config.Duration > 0 {
		s.until = now.Add(s.config.Duration)
	}
}

func (s *sender) run() error {
	if err := s.send(); err != nil {
		return fmt.Errorf("mqttload: connection %d: %w", s.index, err)
	}
	return nil
}

// send keeps the window full until all is sent and acknowledged.
func (s *sender) send() error {
	if s.config.QoS == 0 {
		return s.sendUnacknowledged()
	}
	for {
		room := s.config.InFlight - (s.sent - s.acked)
		s.fill(min(room, s.left()))
		if s.acked == s.sent && len(s.out) == 0 {
			return nil
		}
		if len(s.out) > 0 {
			if _, err := s.net.Write(s.out); err != nil {
				return err
			}
			s.out = s.out[:0]
		}
		if err := s.receive(); err != nil {
			return err
		}
	}
}

// left is how many messages are still to be sent.
func (s *sender) left() int {
	if s.until.IsZero() {
		return s.total - s.sent
	}
	if time.Now().After(s.until) {
		return 0
	}
	return s.config.InFlight
}

// fill appends the next n messages to out.
func (s *sender) fill(n int) {
	now := time.Now()
	for range n {
		slot := s.sent % s.config.InFlight
		s.sentAt[slot] = now
		if s.window != nil {
			s.out = append(s.out, s.window[slot*s.size:(slot+1)*s.size]...)
		} else {
			s.out = s.encode(s.out, uint16(slot+1), s.config.Payload(s.index, s.sent))
		}
		s.sent++
	}
}

func (s *sender) encodeWindow() {
	payload := fmt.Appendf(nil, `{"temperature":21.5,"humidity":48.25,"speed":61.2,"state":"moving"}`)
	for id := 1; id <= s.config.InFlight; id++ {
		s.window = s.encode(s.window, uint16(id), payload)
		if id == 1 {
			s.size = len(s.window)
		}
	}
}

func (s *sender) encode(dst []byte, id uint16, payload []byte) []byte {
	n := 2 + len(s.topic) + len(payload)
	if s.config.QoS > 0 {
		n += 2
	}
	dst = length(append(dst, publish|s.config.QoS<<1), n)
	dst = text(dst, s.topic)
	if s.config.QoS > 0 {
		dst = append(dst, byte(id>>8), byte(id))
	}
	return append(dst, payload...)
}

// receive reads acknowledgements and takes them in.
func (s *sender) receive() error {
	n, err := s.net.Read(s.in[s.held:])
	if err != nil {
		return fmt.Errorf("after %d of %d messages were acknowledged: %w", s.acked, s.sent, err)
	}
	s.held += n
	now := time.Now()
	whole := s.held &^ 3
	for i := 0; i < whole; i += 4 {
		if err := s.take(s.in[i : i+4 : i+4]); err != nil {
			return err
		}
	}
	if whole >= 4 && s.acked > 0 && len(s.latencies) < maxSamples {
		s.latencies = append(s.latencies, now.Sub(s.sentAt[(s.acked-1)%s.config.InFlight]))
	}
	s.held = copy(s.in, s.in[whole:s.held])
	return nil
}

// take takes in one acknowledgement. They are all of four bytes.
func (s *sender) take(ack []byte) error {
	id := int(ack[2])<<8 | int(ack[3])
	done, want := &s.acked, byte(puback)
	if s.config.QoS == 2 {
		want = pubcomp
		if ack[0] == pubrec {
			done, want = &s.released, pubrec
			s.out = append(s.out, pubrel, 2, ack[2], ack[3])
		}
	}
	if ack[0] != want || ack[1] != 2 || id != *done%s.config.InFlight+1 {
		return fmt.Errorf("after %d acknowledgements, for id %d came % x", *done, *done%s.config.InFlight+1, ack)
	}
	*done++
	return nil
}

// sendUnacknowledged sends QoS 0 messages, and a PINGREQ behind them.
func (s *sender) sendUnacknowledged() error {
	for n := s.left(); n > 0; n = s.left() {
		s.fill(min(n, max(s.config.InFlight, 64)))
		if _, err := s.net.Write(s.out); err != nil {
			return err
		}
		s.out = s.out[:0]
	}
	if _, err := s.net.Write([]byte{pingreq, 0}); err != nil {
		return err
	}
	if _, err := io.ReadFull(s.net, s.in[:2]); err != nil {
		return err
	}
	if s.in[0] != pingresp {
		return fmt.Errorf("instead of PINGRESP came % x", s.in[:2])
	}
	s.acked = s.sent
	return nil
}

func text(dst []byte, s string) []byte {
	return append(append(dst, byte(len(s)>>8), byte(len(s))), s...)
}

// length appends a remaining length (MQTT 3.1.1 section 2.2.3).
func length(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}
