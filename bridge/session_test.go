package bridge

import (
	"io"
	"net"
	"testing"
	"time"
)

const packetSubscribe = 0x82 // with its reserved bits, MQTT-3.8.1-1

// A broker that lost its session, then the connection before its SUBACK, says
// that it has kept the session, in which nothing is subscribed.
func TestASubscriptionWithoutAnswerIsMadeAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	b := newBridge(t, "mqtt://"+l.Addr().String(), &testGate{}, Events{})
	r := start(t, b)
	f := func(kept, answer bool, want byte) {
		t.Helper()
		if got := talk(t, l, kept, answer); got != want {
			t.Errorf("session kept %t: the first packet is %#x instead of %#x", kept, got, want)
		}
	}
	f(false, true, packetSubscribe)
	f(false, false, packetSubscribe)
	f(true, true, packetSubscribe)
	f(true, false, 0) // a kept subscription is not made again: retained messages would come again
	_ = l.Close()
	r.stop(t)
}

// talk is a broker for one connection: it accepts the login, reads one packet
// and answers what it is (0: none came), as a subscription if it shall.
func talk(t *testing.T, l net.Listener, kept, answer bool) byte {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	readPacket(c)
	ack := []byte{0x20, 2, 0, 0}
	if kept {
		ack[2] = 1
		if !answer {
			_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		}
	}
	_, _ = c.Write(ack)
	kind, body := readPacket(c)
	if answer && len(body) > 1 {
		_, _ = c.Write([]byte{0x90, 3, body[0], body[1], 1})
		// Let it be read: the bridge's next packet is none, or its leave.
		_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		readPacket(c)
	}
	return kind
}

// readPacket reads a packet shorter than 128 bytes; 0: there is none.
func readPacket(c net.Conn) (kind byte, body []byte) {
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil
	}
	body = make([]byte, head[1])
	if _, err := io.ReadFull(c, body); err != nil {
		return 0, nil
	}
	return head[0], body
}
