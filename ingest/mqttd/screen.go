package mqttd

import (
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"
)

// screen decides what becomes of one whole packet: pass hands it to mochi. It
// refuses here what the standard forbids and mochi would let through, or would
// not survive.
func (c *conn) screen(packet []byte) (pass bool, err error) {
	kind, flags := packet[0]>>4, packet[0]&15
	_, head := varint(packet[1:])
	body := reader{rest: packet[1+head:]}
	if !c.connected {
		return c.screenConnect(&body)
	}
	switch kind {
	case packets.Publish:
		return c.publish(flags, &body)
	case packets.Pubrel:
		return c.pubrel(flags, &body)
	case packets.Subscribe:
		return c.subscribe(flags, &body)
	case packets.Auth:
		// No authentication method was agreed on [MQTT-4.12.0-1].
		return false, c.violation("AUTH without an authentication method")
	case packets.Puback, packets.Pubrec, packets.Pubcomp, packets.Unsubscribe,
		packets.Pingreq, packets.Disconnect, packets.Connect:
		return true, nil
	}
	return false, c.violation("a packet that only a server sends")
}

// violation ends the connection with a protocol error (MQTT 5 section 4.13).
func (c *conn) violation(what string) error {
	return c.refuse("protocol", packets.Code{Code: packets.ErrProtocolViolation.Code, Reason: what})
}

func (c *conn) malformed(what string) error {
	return c.refuse("protocol", packets.Code{Code: packets.ErrMalformedPacket.Code, Reason: what})
}

// screenConnect sees that a CONNECT is of a protocol we speak; what else there is
// to say of it is said in the hook, when mochi has decoded it.
func (c *conn) screenConnect(body *reader) (pass bool, err error) {
	name, level := string(body.field()), body.byte()
	if body.bad || name != "MQTT" && name != "MQIsdp" {
		return false, c.violation("not an MQTT CONNECT")
	}
	if level > 5 || level < 3 || (name == "MQIsdp") != (level == 3) {
		c.version = max(4, min(level, 5)) // a newer client gets the answer of the newest we know
		return false, c.refuse("protocol", unsupported(c, level))
	}
	c.version, c.connected = level, true
	return true, nil
}

func unsupported(c *conn, level byte) packets.Code {
	why := packets.Code{
		Code:   packets.ErrUnsupportedProtocolVersion.Code,
		Reason: fmt.Sprintf("protocol level %d is none of 3, 4, 5 (MQTT 3.1, 3.1.1, 5)", level),
	}
	c.reject(why)
	return why
}

// subscribe checks a SUBSCRIBE (section 3.8) and passes it on. One whose last
// filter has no options byte would end the process in mochi's decoder.
func (c *conn) subscribe(flags byte, body *reader) (pass bool, err error) {
	if flags != 2 {
		return false, c.malformed("SUBSCRIBE with wrong flags") // [MQTT-3.8.1-1]
	}
	if id := body.uint16(); id == 0 || body.bad {
		return false, c.violation("SUBSCRIBE without a packet id")
	}
	if c.version == 5 {
		body.properties(subscribeProperty)
	}
	filters := 0
	for len(body.rest) > 0 && !body.bad {
		filter, options := string(body.text()), body.byte()
		if body.bad {
			break
		}
		filters++
		if err := c.checkFilter(filter, options); err != nil {
			return false, err
		}
	}
	if body.bad {
		return false, c.malformed("SUBSCRIBE cannot be read")
	}
	if filters == 0 {
		return false, c.violation("SUBSCRIBE without a filter") // [MQTT-3.8.3-2]
	}
	if have, most := c.server.subscribers.of(c.client), c.server.limits.Subscriptions; have+filters > most {
		return false, c.refuse("subscriptions", packets.Code{
			Code:   packets.ErrQuotaExceeded.Code,
			Reason: fmt.Sprintf("more than %d subscriptions", most),
		})
	}
	return true, nil
}

func subscribeProperty(id int, r *reader) bool {
	switch id {
	case propSubscriptionID:
		return r.varint() > 0
	case propUser:
		r.text()
		r.text()
		return true
	}
	return false
}

func (c *conn) checkFilter(filter string, options byte) error {
	reserved := byte(0xfc)
	if c.version == 5 {
		reserved = 0xc0
	}
	qos, retainHandling := options&3, options>>4&3
	if options&reserved != 0 || qos == 3 || retainHandling == 3 {
		return c.malformed("SUBSCRIBE with reserved bits") // [MQTT-3.8.3-5]
	}
	if !goodFilter(filter) {
		return c.refuse("protocol", packets.Code{
			Code:   packets.ErrTopicFilterInvalid.Code,
			Reason: fmt.Sprintf("%.60q is not a topic filter", filter),
		})
	}
	if options&4 != 0 && shared(filter) {
		return c.violation("No Local on a shared subscription") // [MQTT-3.8.3-4]
	}
	return nil
}

// pubrel ends a QoS 2 message (section 4.3.3). One that is not ours may be mochi's.
func (c *conn) pubrel(flags byte, body *reader) (pass bool, err error) {
	if flags != 2 {
		return false, c.malformed("PUBREL with wrong flags") // [MQTT-3.6.1-1]
	}
	id := body.uint16()
	if id == 0 || body.bad {
		return false, c.malformed("PUBREL without a packet id")
	}
	known, early := c.session.release(id)
	switch {
	case early:
		return false, c.violation("PUBREL before PUBREC")
	case known:
		c.aside(appendAck(nil, packets.Pubcomp, id, answer{}))
		return false, nil
	}
	return true, nil
}
