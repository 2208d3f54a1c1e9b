package mqttd

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"millrace/devices"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is what mochi asks us. It runs in the reading goroutine of the client.
type hook struct {
	mqtt.HookBase
	server *Server
}

// ID names the hook in mochi's log.
func (h *hook) ID() string { return "millrace" }

// Provides says which of the methods mochi shall call.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPacketEncode, mqtt.OnSessionEstablish,
		mqtt.OnSessionEstablished, mqtt.OnDisconnect, mqtt.OnClientExpired, mqtt.OnPublishDropped, mqtt.OnSubscribed, mqtt.OnUnsubscribed:
		return true
	}
	return false
}

// OnConnectAuthenticate checks the CONNECT and the login. When it refuses, it
// has written the CONNACK, and mochi's own is not sent behind it.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return false
	}
	if why := checkConnect(cl, pk); why.Code != 0 {
		h.server.refused("protocol")
		c.reject(why)
		return false
	}
	ctx, cancel := context.WithTimeout(h.server.work, h.server.limits.Login)
	defer cancel()
	principal, err := h.server.config.Auth.Authenticate(ctx, string(pk.Connect.Username), string(pk.Connect.Password))
	if err != nil {
		h.server.log.Debug("login refused", "client", cl.ID, "remote", cl.Net.Remote, "error", err)
		h.server.refused("auth")
		c.reject(loginCode(err))
		return false
	}
	c.client, c.principal = cl.ID, principal
	limit, why := h.server.sessions.open(c, pk.Connect.Clean)
	if limit != "" {
		h.server.refused(limit)
		c.reject(why)
	}
	return limit == ""
}

// checkConnect finds what the standard forbids in a CONNECT and mochi lets
// through. The zero Code: nothing.
func checkConnect(cl *mqtt.Client, pk packets.Packet) packets.Code {
	connect := &pk.Connect
	violation := func(what string) packets.Code {
		return packets.Code{Code: packets.ErrProtocolViolation.Code, Reason: what}
	}
	switch {
	case !goodText([]byte(connect.ClientIdentifier)):
		return packets.Code{Code: packets.ErrClientIdentifierNotValid.Code, Reason: "the client id has control characters"}
	case !utf8.Valid(connect.Username):
		return packets.Code{Code: packets.ErrMalformedPacket.Code, Reason: "the user name is not UTF-8"}
	case !connect.WillFlag && connect.WillQos != 0:
		return violation("a will QoS without a will") // [MQTT-3.1.2-11]
	case connect.WillFlag && !goodTopic([]byte(connect.WillTopic)):
		return packets.Code{Code: packets.ErrTopicNameInvalid.Code, Reason: "the will's topic is not a topic"}
	case pk.ProtocolVersion < 5 && connect.PasswordFlag && !connect.UsernameFlag:
		return violation("a password without a user name") // [MQTT-3.1.2-22] of 3.1.1
	case cl.Properties.Props.AuthenticationMethod != "":
		return packets.Code{
			Code:   packets.ErrBadAuthenticationMethod.Code,
			Reason: fmt.Sprintf("authentication method %.40q is not known; log in with user name and password", cl.Properties.Props.AuthenticationMethod),
		}
	}
	return packets.Code{}
}

// OnSessionEstablish keeps what CONNECT said, before CONNACK is sent.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, pk packets.Packet) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	c.keepalive = time.Duration(pk.Connect.Keepalive) * time.Second
	c.deadline = time.Time{}
	if c.keepalive == 0 {
		_ = c.net.SetReadDeadline(time.Time{})
	}
	properties := &cl.Properties.Props
	c.largest = properties.MaximumPacketSize
	c.terse = properties.RequestProblemInfoFlag && properties.RequestProblemInfo == 0
	h.server.takeWill(c, cl, pk)
}

// OnSessionEstablished asks once more whether the login still stands.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	c.opened = true
	if report := h.server.config.Events.Opened; report != nil {
		report(c.version)
	}
	if asked, ok := h.server.config.Auth.(interface {
		Allows(devices.Principal) bool
	}); ok && !asked.Allows(c.principal) {
		c.end(packets.ErrNotAuthorized)
	}
}

// OnDisconnect ends the session where it ends with the connection.
func (h *hook) OnDisconnect(cl *mqtt.Client, err error, expire bool) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	h.server.leaveWill(c, err)
	if expire {
		h.server.sessions.close(c)
	}
}

// OnClientExpired lets go of a session that outlived its connection long enough.
// mochi forgets its subscriptions only if asked to.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	h.server.mochi.UnsubscribeClient(cl)
	if c, ok := cl.Net.Conn.(*conn); ok {
		h.server.sessions.close(c)
	}
}

// OnPacketEncode completes the CONNACK by the limits mochi does not tell.
func (h *hook) OnPacketEncode(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack && pk.ReasonCode == 0 {
		pk.Properties.TopicAliasMaximum = uint16(h.server.limits.Aliases)
		pk.Properties.MaximumPacketSize = uint32(h.server.limits.PacketBytes)
	}
	return pk
}

// OnPublishDropped counts what a subscriber was too slow for.
func (h *hook) OnPublishDropped(*mqtt.Client, packets.Packet) {
	if report := h.server.config.Events.Missed; report != nil {
		report()
	}
}

// OnSubscribed counts what was granted.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	h.server.subscribers.add(cl.ID, pk.Filters, codes)
}

// OnUnsubscribed counts what ended.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	h.server.subscribers.remove(cl.ID, pk.Filters)
}

// OnACLCheck is asked with the filter when a client subscribes and with the topic
// for each message it is to get. With logins, a device sees of telemetry only
// its own; a wide filter like # is allowed and gives it what it may see. Topics
// that are not telemetry are everybody's. What may be published is the gate's
// to say.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	c, ok := cl.Net.Conn.(*conn)
	if write || !ok || c.principal.Open {
		return true
	}
	if strings.HasPrefix(topic, "$share/") {
		if parts := strings.SplitN(topic, "/", 3); len(parts) == 3 {
			topic = parts[2]
		}
	}
	if strings.HasPrefix(topic, mqtt.SysPrefix) {
		return false
	}
	route, telemetry := h.server.config.Patterns.Match(topic)
	return !telemetry || !route.Me && c.principal.MayPublish(route.Device)
}
