package mqttd

import (
	"errors"
	"time"

	"millrace/ingest"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// will is the last word of a client on a telemetry topic (MQTT 5 section 3.1.2.5).
// It passes the gate as any message does. mochi would publish it without asking
// anybody; so mochi is not told of it.
type will struct {
	message ingest.Message
	forward packets.Packet
	delay   time.Duration
}

// takeWill takes a telemetry will out of mochi's hands.
func (s *Server) takeWill(c *conn, cl *mqtt.Client, pk packets.Packet) {
	connect := &pk.Connect
	if !connect.WillFlag {
		return
	}
	route, ours := s.config.Patterns.Match(connect.WillTopic)
	if !ours {
		return
	}
	m := ingest.Message{
		Source: "mqtt", Topic: connect.WillTopic, Client: cl.ID,
		Payload: connect.WillPayload, Publisher: c.principal, Wait: true,
	}
	route.Address(&m)
	if route.Me && m.Device == "" {
		m.Device = cl.ID
	}
	properties := &cl.Properties.Props
	// The will is due at the end of the delay or of the session, whichever is first.
	delay := min(connect.WillProperties.WillDelayInterval, properties.SessionExpiryInterval)
	c.will = &will{
		message: m, delay: min(time.Duration(delay)*time.Second, s.limits.Session),
		forward: packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: connect.WillQos, Retain: connect.WillRetain},
			TopicName:   connect.WillTopic, Payload: connect.WillPayload,
			Properties: packets.Properties{User: connect.WillProperties.User}, PacketID: uint16(connect.WillQos),
		},
	}
	cl.Properties.Will = mqtt.Will{}
}

// leaveWill publishes the client's will unless it said goodbye (err is nil). A
// stop of this process is no death of the device: it will come again, and what
// it had to say is still true.
func (s *Server) leaveWill(c *conn, err error) {
	w := c.will
	c.will = nil
	if w == nil || err == nil || errors.Is(c.last, errStopping) || s.stopping() {
		return
	}
	if w.delay == 0 || c.session == nil {
		s.publishWill(c, w)
		return
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if c.session.conn == c { // else it has come back already
		c.session.will = time.AfterFunc(w.delay, func() { s.publishDue(c, w) })
	}
}

// publishDue publishes a delayed will. It is the one append that no connection
// stands behind: drain, which takes the same lock, either sees it or prevents it.
func (s *Server) publishDue(c *conn, w *will) {
	s.sessions.mu.Lock()
	if s.stopping() {
		s.sessions.mu.Unlock()
		return
	}
	s.appends.Add(1)
	s.sessions.mu.Unlock()
	defer s.appends.Done()
	s.publishWill(c, w)
}

func (s *Server) publishWill(c *conn, w *will) {
	retain := &w.forward.FixedHeader.Retain
	*retain = *retain && s.mayRetain(w.forward.TopicName)
	s.accept(w.message, func(o ingest.Outcome) {
		if o.Err != nil {
			s.log.Warn("a client's will was not kept", "client", c.client, "error", o.Err)
		}
		if o.Accepted == 0 {
			s.appends.Done()
			return
		}
		go func() { // done must not be blocked
			defer s.appends.Done()
			s.forward(c, &w.forward)
		}()
	})
}
