package mqttd

import (
	"fmt"
	"strings"

	"millrace/ingest"
	"millrace/telemetry"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// message is a PUBLISH taken apart. Its bytes are the buffer's.
type message struct {
	qos     byte
	dup     bool
	retain  bool
	id      uint16
	topic   []byte
	alias   uint16
	payload []byte
	body    []byte // all behind the fixed header
}

// publish takes a message in: telemetry goes to the gate, the rest to mochi.
func (c *conn) publish(flags byte, body *reader) (pass bool, err error) {
	m, err := c.readMessage(flags, body)
	if err != nil {
		return false, err
	}
	if err := c.readTopic(&m); err != nil {
		return false, err
	}
	if m.qos > 0 {
		if err := c.admit(); err != nil {
			return false, err
		}
	}
	if !c.ours || c.takesBack(&m) {
		if reserved(c.topic) {
			c.deny(m)
			return false, nil
		}
		if m.retain && len(m.payload) > 0 && !c.server.mayRetain(c.topic) {
			return false, c.refuse("retained", packets.Code{
				Code:   packets.ErrQuotaExceeded.Code,
				Reason: fmt.Sprintf("the limit of %d retained messages is reached", c.server.limits.Retained),
			})
		}
		if report := c.server.config.Events.Plain; report != nil {
			report()
		}
		return true, nil
	}
	c.append(m)
	return false, nil
}

// takesBack says whether the message takes back a retained one: an empty
// retained message does [MQTT-3.3.1-6], it says nothing of a device. On
// telemetry topics that is for those who may publish there; of others the gate
// keeps it as a dead letter. mochi does not know the aliases of telemetry
// topics, so one that comes by an alias is not for it either.
func (c *conn) takesBack(m *message) bool {
	if !m.retain || len(m.payload) > 0 || m.alias > 0 || c.route.Refused != nil {
		return false
	}
	return c.principal.Open || !c.route.Me && c.principal.MayPublish(c.route.Device)
}

// readMessage takes a PUBLISH apart (section 3.3).
func (c *conn) readMessage(flags byte, body *reader) (message, error) {
	m := message{qos: flags >> 1 & 3, dup: flags&8 != 0, retain: flags&1 != 0, body: body.rest}
	if m.qos == 3 {
		return m, c.malformed("PUBLISH with QoS 3") // [MQTT-3.3.1-4]
	}
	if m.dup && m.qos == 0 {
		return m, c.violation("DUP on QoS 0") // [MQTT-3.3.1-2]
	}
	m.topic = body.field()
	if m.qos > 0 {
		if m.id = body.uint16(); m.id == 0 {
			return m, c.violation("PUBLISH without a packet id") // [MQTT-2.2.1-3]
		}
	}
	if c.version == 5 {
		body.properties(func(id int, r *reader) bool { return publishProperty(&m, id, r) })
	}
	if body.bad {
		return m, c.malformed("PUBLISH cannot be read")
	}
	m.payload = body.rest
	return m, nil
}

// publishProperty reads one of the properties a client may set (section 3.3.2.3).
func publishProperty(m *message, id int, r *reader) bool {
	switch id {
	case propPayloadFormat:
		return r.byte() <= 1
	case propMessageExpiry:
		r.bytes(4)
	case propContentType:
		r.text()
	case propResponseTopic:
		return goodTopic(r.text()) // [MQTT-3.3.2-14]
	case propCorrelationData:
		r.field()
	case propTopicAlias:
		m.alias = r.uint16()
		return m.alias != 0 // [MQTT-3.3.2-8]
	case propUser:
		r.text()
		r.text()
	default:
		return false
	}
	return true
}

// readTopic finds the message's topic and route. The route of the topic before
// is kept: most devices speak on one.
func (c *conn) readTopic(m *message) error {
	name := ""
	if m.alias > 0 {
		var err error
		if name, err = c.readAlias(m); err != nil {
			return err
		}
	}
	if c.topic != "" && (string(m.topic) == c.topic || name == c.topic) {
		return nil
	}
	if name == "" {
		if !goodTopic(m.topic) {
			return c.refuse("protocol", packets.Code{
				Code:   packets.ErrTopicNameInvalid.Code,
				Reason: fmt.Sprintf("%.60q is not a topic", m.topic),
			})
		}
		name = string(m.topic)
	}
	c.topic = name
	c.route, c.ours = c.server.config.Patterns.Match(name)
	c.wantedAt = 0
	return nil
}

// readAlias resolves or sets a topic alias (section 3.3.2.3.4).
// name is the topic of an alias that stands for one.
func (c *conn) readAlias(m *message) (name string, err error) {
	if int(m.alias) > c.server.limits.Aliases {
		return "", c.refuse("protocol", packets.Code{
			Code:   packets.ErrTopicAliasInvalid.Code,
			Reason: fmt.Sprintf("topic alias %d is larger than %d", m.alias, c.server.limits.Aliases),
		})
	}
	if len(m.topic) > 0 {
		if c.aliases == nil {
			c.aliases = make(map[uint16]string)
		}
		if c.aliases[m.alias] != string(m.topic) {
			if !goodTopic(m.topic) {
				return "", nil // readTopic says so
			}
			c.aliases[m.alias] = string(m.topic)
		}
		return "", nil
	}
	name, set := c.aliases[m.alias]
	if !set {
		return "", c.violation(fmt.Sprintf("topic alias %d was never set", m.alias))
	}
	return name, nil
}

// admit holds the limit of messages in flight. An MQTT 5 client was told and
// breaks the protocol; of others we read no more until there is room.
func (c *conn) admit() error {
	most := c.server.limits.InFlight
	if c.version == 5 && c.inFlight() >= most {
		return c.refuse("inflight", packets.Code{
			Code:   packets.ErrReceiveMaximum.Code,
			Reason: fmt.Sprintf("more than %d messages in flight", most),
		}) // [MQTT-3.3.4-9]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) >= most && !c.closed {
		c.cond.Wait()
	}
	if c.closed {
		return errClosed
	}
	return nil
}

// inFlight is the number of messages the client may count as unacknowledged.
func (c *conn) inFlight() int {
	c.mu.Lock()
	n := c.qos1
	c.mu.Unlock()
	return n + c.session.unreleased()
}

// reserved says whether a topic is the server's own (MQTT 5 section 4.7.2). mochi
// drops a client's message there without an answer, by the first four
// characters in any case, and the client would wait for one for ever.
func reserved(topic string) bool {
	return len(topic) >= len(mqtt.SysPrefix) && strings.EqualFold(topic[:len(mqtt.SysPrefix)], mqtt.SysPrefix)
}

// deny answers a message on a reserved topic, in its turn; it goes nowhere. MQTT
// 3 cannot say no [MQTT-3.3.5-2 of 3.1.1]: there the exchange ends as if it had
// been taken, PUBCOMP included.
func (c *conn) deny(m message) {
	c.server.refused("reserved")
	if m.qos == 0 {
		return
	}
	p := &pending{conn: c, id: m.id, qos: m.qos, received: c.readAt}
	if m.qos == 2 {
		if first, known := c.session.receive(m.id, p); known {
			c.repeat(p, first)
			return
		}
		c.session.settle(p, c.version < 5)
	}
	if c.enqueue(p) {
		p.resolve(answer{code: packets.ErrNotAuthorized.Code, text: "topics that begin with $SYS are the server's"}, nil)
	}
}

// append hands the message to the gate, and gives it its place in the order of
// acknowledgements before: the gate may be done before Accept returns.
func (c *conn) append(m message) {
	p := &pending{conn: c, id: m.id, qos: m.qos, received: c.readAt}
	first, again := c.again(m, p)
	if again {
		c.repeat(p, first)
		return
	}
	p.size = int64(len(m.payload)) + overhead
	if !c.server.room.take(p.size, m.qos > 0) {
		c.dropped(p)
		return
	}
	// At the limit telemetry goes its way all the same, it just is not retained.
	m.retain = m.retain && len(m.payload) > 0 && c.server.mayRetain(c.topic)
	if m.retain || c.subscribed() {
		p.forward = c.copyOf(m)
	}
	p.queued = m.qos > 0 || p.forward != nil
	if p.queued && !c.enqueue(p) {
		c.server.room.give(p.size)
		c.dropped(p)
		return
	}
	c.server.accept(c.message(m), p.finish)
	if report := c.server.config.Events.Received; report != nil {
		report(m.qos, len(m.payload))
	}
}

// overhead is what a message costs in memory beside its payload, about.
const overhead = 256

// again says whether the message is here already; first is its append under way,
// nil if it is over.
func (c *conn) again(m message, p *pending) (first *pending, again bool) {
	switch {
	case m.qos == 2:
		return c.session.receive(m.id, p)
	case m.qos == 1 && m.dup:
		first = c.underway(m.id)
	}
	return first, first != nil
}

// repeat gives a message sent again the answer of the first.
func (c *conn) repeat(p, first *pending) {
	if report := c.server.config.Events.Duplicate; report != nil {
		report()
	}
	if !c.enqueue(p) {
		return
	}
	if first != nil {
		p.follow(first)
	} else {
		p.resolve(answer{}, nil)
	}
}

// dropped is a message for which there is no room: QoS 0, or the connection has
// ended.
func (c *conn) dropped(p *pending) {
	if p.qos > 0 {
		c.session.settle(p, false)
		c.Close()
		return
	}
	p.failed(telemetry.ErrOverloaded)
}

func (c *conn) message(m message) ingest.Message {
	out := ingest.Message{
		Source: "mqtt", Topic: c.topic, Client: c.client,
		Payload: m.payload, Publisher: c.principal, Wait: m.qos > 0,
	}
	c.route.Address(&out)
	return c.named(out)
}

// named gives a message on a topic that leaves the device to the login its
// device: without logins that is the user name if it is a device's, else the
// client id. An id out of form is refused by the gate, which says so.
func (c *conn) named(m ingest.Message) ingest.Message {
	if c.route.Me && m.Device == "" {
		m.Device = c.client
	}
	return m
}
