package mqttd

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"millrace/ingest"
)

func textHandler(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
}

func newLogger(h slog.Handler) *slog.Logger { return slog.New(h) }

// violations are packets that end a connection of MQTT 5, and the reason they
// end it with.
var violations = []struct {
	what   string
	packet string
	code   byte
}{
	{"SUBSCRIBE whose filter has no options: panics in mochi", "\x82\x06\x00\x01\x00\x00\x01\x61", 0x81},
	{"SUBSCRIBE with reserved bits", pack(0x82, "\x00\x01\x00", str("a"), "\x40"), 0x81},
	{"SUBSCRIBE with QoS 3", pack(0x82, "\x00\x01\x00", str("a"), "\x03"), 0x81},
	{"SUBSCRIBE without filters", pack(0x82, "\x00\x01\x00"), 0x82},
	{"SUBSCRIBE with flags 0", pack(0x80, "\x00\x01\x00", str("a"), "\x00"), 0x81},
	{"SUBSCRIBE without id", pack(0x82, "\x00\x00\x00", str("a"), "\x00"), 0x82},
	{"No Local on a shared subscription", pack(0x82, "\x00\x01\x00", str("$share/g/a"), "\x04"), 0x82},
	{"filter tennis#", pack(0x82, "\x00\x01\x00", str("sport/tennis#"), "\x00"), 0x8f},
	{"filter sport+", pack(0x82, "\x00\x01\x00", str("sport+"), "\x00"), 0x8f},
	{"filter with #/", pack(0x82, "\x00\x01\x00", str("#/a"), "\x00"), 0x8f},
	{"filter of 40 levels", pack(0x82, "\x00\x01\x00", str(strings.Repeat("/", 40)), "\x00"), 0x8f},
	{"filter with a control character", pack(0x82, "\x00\x01\x00", str("a\x01"), "\x00"), 0x8f},
	{"property of another packet in SUBSCRIBE", pack(0x82, "\x00\x01\x02\x01\x01", str("a"), "\x00"), 0x81},
	{"AUTH", "\xf0\x00", 0x82},
	{"a server's packet", "\xd0\x00", 0x82},
	{"PUBLISH with QoS 3", pack(0x36, str("a"), "\x00\x01\x00"), 0x81},
	{"PUBLISH with DUP and QoS 0", pack(0x38, str("a"), "\x00"), 0x82},
	{"PUBLISH without id", pack(0x32, str("a"), "\x00\x00\x00"), 0x82},
	{"topic with a control character", pack(0x30, str("a\x07"), "\x00"), 0x90},
	{"topic with U+0080", pack(0x30, str("a\u0080"), "\x00"), 0x90},
	{"topic with a wildcard", pack(0x30, str("telemetry/+"), "\x00"), 0x90},
	{"topic of invalid UTF-8", pack(0x30, str("a\xff"), "\x00"), 0x90},
	{"topic of 40 levels", pack(0x30, str(strings.Repeat("/", 40)), "\x00"), 0x90},
	{"no topic and no alias", pack(0x30, str(""), "\x00"), 0x90},
	{"an alias never set", pack(0x30, str(""), "\x03\x23\x00\x01"), 0x82},
	{"alias 0", pack(0x30, str("a"), "\x03\x23\x00\x00"), 0x81},
	{"an alias too large", pack(0x30, str("a"), "\x03\x23\x10\x00"), 0x94},
	{"a property twice", pack(0x30, str("a"), "\x06\x23\x00\x01\x23\x00\x01"), 0x81},
	{"a property of another packet", pack(0x30, str("a"), "\x02\x0b\x01"), 0x81},
	{"a response topic with a wildcard", pack(0x30, str("a"), "\x04\x08\x00\x01#"), 0x81},
	{"properties longer than the packet", pack(0x30, str("a"), "\x20"), 0x81},
	{"a length of five bytes", "\x30\xff\xff\xff\xff\x01", 0x81},
	{"PUBREL with flags 0", "\x60\x02\x00\x01", 0x81},
	{"a second CONNECT", connectPacket(5, true, "again"), 0x82},
}

func TestViolationsEndTheConnectionAndNothingElse(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	bystander := dialRaw(t, s)
	bystander.login(4, true, "bystander")
	for _, v := range violations {
		t.Run(v.what, func(t *testing.T) {
			c := dialRaw(t, s)
			c.login(5, true, "c")
			c.send(v.packet)
			end := c.ends()
			if len(end) < 3 || end[0] != 0xe0 || end[2] != v.code {
				t.Fatalf("got % x, want DISCONNECT %#x", end, v.code)
			}
		})
	}
	bystander.ping()
	bystander.send(publishPacket(4, 2, 1, "telemetry/a", "1"))
	gate.next(t).keep()
	bystander.want(ackPacket(puback, 1))
}

func TestConnectsThatAreRefused(t *testing.T) {
	s, _ := start(t, Config{Gate: newHandGate()})
	connects := []struct{ what, packet, answer string }{
		{"protocol level 6", pack(0x10, str("MQTT"), "\x06\x02\x00\x3c\x00", str("c")), "\x84"},
		{"protocol level 2", pack(0x10, str("MQTT"), "\x02\x02\x00\x3c", str("c")), "\x01"},
		{"control characters in the client id", pack(0x10, str("MQTT"), "\x05\x02\x00\x3c\x00", str("a\x01b")), "\x85"},
		{"an authentication method", pack(0x10, str("MQTT"), "\x05\x02\x00\x3c\x06\x15", str("abc"), str("c")), "\x8c"},
		{"will QoS without a will", pack(0x10, str("MQTT"), "\x05\x0a\x00\x3c\x00", str("c")), "\x82"},
		{"a will on a wildcard", pack(0x10, str("MQTT"), "\x05\x06\x00\x3c\x00", str("c"), "\x00", str("a/+"), str("x")), "\x90"},
		{"a user name that is not UTF-8", pack(0x10, str("MQTT"), "\x05\x82\x00\x3c\x00", str("c"), str("\xff")), "\x81"},
		{"a password without a user name", pack(0x10, str("MQTT"), "\x04\x42\x00\x3c", str("c"), str("p")), "\x03"},
	}
	for _, v := range connects {
		t.Run(v.what, func(t *testing.T) {
			c := dialRaw(t, s)
			c.send(v.packet)
			if ack := c.ends(); len(ack) < 4 || ack[0] != 0x20 || ack[3:4] != v.answer {
				t.Fatalf("got % x, want CONNACK % x", ack, v.answer)
			}
		})
	}
	for _, first := range []string{"\xc0\x00", "GET / HTTP/1.1\r\n\r\n", "\x10\x02\x00\x00"} {
		c := dialRaw(t, s)
		c.send(first)
		if end := c.ends(); end != "" {
			t.Fatalf("%q was answered % x", first, end)
		}
	}
}

func TestTopicAliases(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	c := dialRaw(t, s)
	c.login(5, true, "c")
	alias := "\x03\x23\x00\x01"
	c.send(
		pack(0x32, str("telemetry/a"), "\x00\x01", alias, "1"),
		pack(0x32, str("telemetry/b"), "\x00\x02", "\x00", "2"),
		pack(0x32, str(""), "\x00\x03", alias, "3"),
		pack(0x32, str("plain"), "\x00\x04", alias, "4"),
		pack(0x32, str(""), "\x00\x05", alias, "5"),
		pack(0x32, str("telemetry/c"), "\x00\x06", alias, "6"),
		pack(0x32, str(""), "\x00\x07", alias, "7"),
	)
	for _, want := range []string{"telemetry/a 1", "telemetry/b 2", "telemetry/a 3", "telemetry/c 6", "telemetry/c 7"} {
		m := gate.next(t)
		if got := m.Topic + " " + m.payload(); got != want {
			t.Fatalf("the gate got %s, want %s", got, want)
		}
		m.keep()
	}
	for id := range uint16(7) {
		c.want(ackPacket(puback, id+1))
	}
}

// mochi drops a message on a topic of the server's own without an answer. The
// client must have one: else its place in flight is gone for good.
func TestReservedTopicsAreAnswered(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		gate, refused := newHandGate(), make(chan string, 16)
		s, _ := start(t, Config{Gate: gate, Limits: Limits{InFlight: 1}, Events: Events{Refused: func(limit string) { refused <- limit }}})
		c := dialRaw(t, s)
		c.login(version, true, "c")
		f := func(ack, id byte) {
			t.Helper()
			got := c.packet()
			if version == 5 && (len(got) < 5 || got[4] != 0x87) || version < 5 && len(got) != 4 || got[0] != ack || got[3] != id {
				t.Fatalf("got % x for message %d", got, id)
			}
		}
		c.send(publishPacket(version, 0, 0, "$SYS/x", "1"))
		c.ping() // QoS 0 has no answer
		c.send(publishPacket(version, 2, 1, "$SYS/x", "1"))
		f(puback, 1)
		c.send(publishPacket(version, 2, 2, "$sYs", "1"))
		f(puback, 2)
		c.send(publishPacket(version, 3, 3, "$SYSTEM/x", "1")) // retained; mochi looks at four characters
		f(puback, 3)
		c.send(publishPacket(version, 4, 4, "$SYS/x", "1"))
		f(pubrec, 4)
		if version < 5 {
			c.send(publishPacket(version, 4|8, 4, "$SYS/x", "1"))
			f(pubrec, 4)
			c.send(ackPacket(pubrel, 4))
			c.want(ackPacket(pubcomp, 4))
		}
		c.send(publishPacket(version, 4, 4, "telemetry/a", "1")) // the id and the place are free
		gate.next(t).keep()
		c.want(ackPacket(pubrec, 4))
		gate.none(t)
		for range 5 {
			if limit := <-refused; limit != "reserved" {
				t.Errorf("counted as %s", limit)
			}
		}
	})
}

// trap is a pattern list with a defect.
type trap struct{ testPatterns }

func (p trap) Match(topic string) (ingest.Route, bool) {
	if topic == "trap" {
		panic("impossible, because this is a test")
	}
	return p.testPatterns.Match(topic)
}

func TestAPanicEndsOneConnectionOnly(t *testing.T) {
	panicked := make(chan struct{}, 1)
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate, Patterns: trap{}, Events: Events{Panicked: func() { panicked <- struct{}{} }}})
	bystander, c := dialRaw(t, s), dialRaw(t, s)
	bystander.login(4, true, "bystander")
	c.login(4, true, "c")
	c.send(publishPacket(4, 0, 0, "trap", "x"))
	c.ends()
	<-panicked
	bystander.ping()
	c = dialRaw(t, s)
	c.login(4, true, "c")
	c.send(publishPacket(4, 2, 1, "telemetry/a", "x"))
	gate.next(t).keep()
	c.want(ackPacket(puback, 1))
}

// FuzzConnection feeds a logged-in client's bytes to the door: whatever they are,
// the door stands, and another client is served.
func FuzzConnection(f *testing.F) {
	for _, v := range violations {
		f.Add(byte(5), []byte(v.packet))
	}
	f.Add(byte(4), []byte(publishPacket(4, 2, 1, "telemetry/a", "1")+ackPacket(pubrel, 1)+"\xe0\x00"))
	f.Add(byte(3), []byte(pack(0x82, "\x00\x01", str("#"), "\x02")+pack(0xa2, "\x00\x02", str("#"))))
	f.Fuzz(func(t *testing.T, version byte, data []byte) {
		version = 3 + version%3
		s, stop := start(t, Config{Gate: newQuickGate(t), Events: Events{Panicked: func() { t.Error("a panic") }}})
		c, other := dialRaw(t, s), dialRaw(t, s)
		c.login(version, true, "fuzz")
		_, _ = c.Write(data)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		other.login(4, true, "other")
		other.ping()
		stop()
	})
}
