package mqttd

import (
	"net"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Write takes whole packets from mochi. Its acknowledgements of messages outside
// telemetry wait for ours before them: the order of receipt holds for all
// (MQTT 5 section 4.6).
func (c *conn) Write(p []byte) (int, error) {
	if p[0]>>4 == packets.Disconnect && c.version < 5 {
		return len(p), nil // MQTT 3 has no DISCONNECT from the server
	}
	rest := p
	for len(rest) > 0 {
		size := packetSize(rest)
		kind := rest[0] >> 4
		if (kind != packets.Puback && kind != packets.Pubrec) || !c.wait(rest[:size]) {
			break
		}
		rest = rest[size:]
	}
	if len(rest) == 0 {
		return len(p), nil
	}
	if _, err := c.send(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}

// packetSize is the size of the whole packet at the head of p.
func packetSize(p []byte) int {
	n, head := varint(p[1:])
	if head <= 0 {
		return len(p)
	}
	return min(1+head+n, len(p))
}

// wait gives an acknowledgement its place behind the pending ones. false: there
// are none.
func (c *conn) wait(ack []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 && !c.flushing {
		return false
	}
	c.queue = append(c.queue, &pending{conn: c, raw: append([]byte(nil), ack...), done: true})
	c.wakeLocked()
	return true
}

// aside queues a packet that need not wait for the order of acknowledgements.
func (c *conn) aside(packet []byte) {
	c.mu.Lock()
	c.side = append(c.side, packet...)
	c.wakeLocked()
	c.mu.Unlock()
}

// send writes whole packets. Its error closes the connection.
func (c *conn) send(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.muted {
		return len(p), nil
	}
	return c.sendLocked(p)
}

func (c *conn) sendLocked(p []byte) (int, error) {
	stuck := c.server.limits.Stuck
	// As with reading, the deadline moves in steps.
	if now := time.Now(); c.writeUntil.Sub(now) < stuck/2 {
		c.writeUntil = now.Add(stuck)
		_ = c.net.SetWriteDeadline(c.writeUntil)
	}
	n, err := c.net.Write(p)
	if err != nil {
		// Part of a packet may be out: nothing that follows would be understood.
		c.muted = true
		c.Close()
	}
	return n, err
}

// end writes a last packet, DISCONNECT where there is one, and closes.
func (c *conn) end(why packets.Code) {
	c.wmu.Lock()
	if !c.muted && c.version == 5 {
		_, _ = c.sendLocked(appendDisconnect(nil, why))
	}
	c.muted = true
	c.wmu.Unlock()
	c.Close()
}

// reject answers a CONNECT with an error and closes (MQTT 5 section 3.2.2,
// MQTT 3.1.1 section 3.2.2.3).
func (c *conn) reject(why packets.Code) {
	ack := []byte{packets.Connack << 4, 2, 0, connack3(why)}
	if c.version >= 5 {
		text := clip(why.Reason)
		ack = append([]byte{
			packets.Connack << 4, byte(3 + 3 + len(text)), 0, why.Code,
			byte(3 + len(text)), propReasonString, 0, byte(len(text)),
		}, text...)
	}
	c.wmu.Lock()
	if !c.muted {
		_, _ = c.sendLocked(ack)
	}
	c.muted = true
	c.wmu.Unlock()
	c.Close()
}

// connack3 is the return code of MQTT 3 nearest to a reason code of MQTT 5.
func connack3(why packets.Code) byte {
	switch why.Code {
	case packets.ErrUnsupportedProtocolVersion.Code:
		return packets.Err3UnsupportedProtocolVersion.Code
	case packets.ErrClientIdentifierNotValid.Code:
		return packets.Err3ClientIdentifierNotValid.Code
	case packets.ErrBadUsernameOrPassword.Code:
		return packets.ErrMalformedUsernameOrPassword.Code
	case packets.ErrNotAuthorized.Code:
		return packets.Err3NotAuthorized.Code
	}
	return packets.Err3ServerUnavailable.Code
}

// Close ends the connection; it may be called more than once. What was not
// acknowledged by then will not be: the client sends it again.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.cond.Broadcast()
	c.mu.Unlock()
	return c.net.Close()
}

// LocalAddr is the socket's.
func (c *conn) LocalAddr() net.Addr { return c.net.LocalAddr() }

// RemoteAddr is the socket's.
func (c *conn) RemoteAddr() net.Addr { return c.net.RemoteAddr() }

// SetDeadline does nothing: mochi would count the time in which we do not read,
// because a client is at its limit, as the client's silence. See fill and send.
func (c *conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing; see SetDeadline.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing; see SetDeadline.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
