package mqttd

import (
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// subscribers counts who subscribes to what, so that a message nobody wants is
// not copied. mochi's own counter loses count: it counts the end of subscriptions
// that never were.
type subscribers struct {
	generation atomic.Uint64 // of the set; never 0
	any        atomic.Bool

	mu sync.Mutex // guards by
	by map[string]map[string]struct{}
}

// add notes the filters of a SUBSCRIBE that were granted.
func (s *subscribers) add(client string, filters packets.Subscriptions, codes []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range filters {
		if i >= len(codes) || codes[i] > packets.CodeGrantedQos2.Code {
			continue
		}
		if s.by[client] == nil {
			s.by[client] = make(map[string]struct{})
		}
		s.by[client][f.Filter] = struct{}{}
	}
	s.changedLocked()
}

func (s *subscribers) remove(client string, filters packets.Subscriptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range filters {
		delete(s.by[client], f.Filter)
	}
	if len(s.by[client]) == 0 {
		delete(s.by, client)
	}
	s.changedLocked()
}

func (s *subscribers) changedLocked() {
	s.any.Store(len(s.by) > 0)
	s.generation.Add(1)
}

// of is the number of subscriptions of a client.
func (s *subscribers) of(client string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by[client])
}

// subscribed says whether somebody subscribes to the topic of the message at
// hand. The answer is kept until a subscription comes or goes.
func (c *conn) subscribed() bool {
	s := &c.server.subscribers
	if !s.any.Load() {
		return false
	}
	if now := s.generation.Load(); c.wantedAt != now {
		found := c.server.mochi.Topics.Subscribers(c.topic)
		c.wanted, c.wantedAt = len(found.Subscriptions)+len(found.Shared) > 0, now
	}
	return c.wanted
}

// copyOf is the message as mochi forwards it. The bytes are its own.
func (c *conn) copyOf(m message) *packets.Packet {
	p := &packets.Packet{ProtocolVersion: c.version, FixedHeader: packets.FixedHeader{
		Type: packets.Publish, Qos: m.qos, Retain: m.retain, Remaining: len(m.body),
	}}
	// Cannot fail: readMessage has read the same bytes.
	_ = p.PublishDecode(append([]byte(nil), m.body...))
	p.TopicName, p.Properties.TopicAlias, p.Properties.TopicAliasFlag = c.topic, 0, false
	return p
}

// mayRetain says whether the limit leaves room for a retained message of the topic.
func (s *Server) mayRetain(topic string) bool {
	retained := s.mochi.Topics.Retained
	if retained.Len() < s.limits.Retained {
		return true
	}
	_, replaces := retained.Get(topic)
	return replaces
}

// lender holds mochi's inline client under whose name a client's messages are
// forwarded; made when the first one is.
type lender struct {
	once   sync.Once
	client *mqtt.Client
}

// forward gives a message that is in the log to its subscribers, and keeps it if
// it is retained. It does not wait for anybody: a subscriber that does not keep
// up loses messages of its own.
func (s *Server) forward(c *conn, p *packets.Packet) {
	c.publisher.once.Do(func() {
		// An inline client of the same id: mochi asks it no rights again, and No
		// Local still knows whose message it is.
		c.publisher.client = s.mochi.NewClient(nil, mqtt.LocalListener, c.client, true)
		c.publisher.client.Properties.ProtocolVersion = c.version
	})
	if err := s.mochi.InjectPacket(c.publisher.client, *p); err != nil {
		s.log.Debug("message not forwarded", "client", c.client, "error", err)
	}
}
