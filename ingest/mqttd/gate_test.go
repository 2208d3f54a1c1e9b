package mqttd

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/telemetry"
)

// memoryLog keeps entries.
type memoryLog struct {
	mu      sync.Mutex
	entries []telemetry.Entry
}

func (l *memoryLog) Append(_ context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	l.mu.Lock()
	position := telemetry.Position{Offset: int64(len(l.entries))}
	l.entries = append(l.entries, e)
	l.mu.Unlock()
	go done(position, nil)
}

func (l *memoryLog) TryAppend(ctx context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	l.Append(ctx, e, done)
}

func defaultPatterns(t *testing.T) *ingest.Patterns {
	t.Helper()
	patterns, err := ingest.ParsePatterns(ingest.DefaultPatterns())
	if err != nil {
		t.Fatal(err)
	}
	return patterns
}

func TestThroughTheRealGate(t *testing.T) {
	log := &memoryLog{}
	s, _ := start(t, Config{Gate: ingest.NewGate(ingest.Config{Appender: log}), Patterns: defaultPatterns(t), Auth: tokens{}})
	c := dialRaw(t, s)
	c.send(loginPacket(5, "any id", "truck-7", "truck-7"))
	c.packet()
	for i, message := range []struct {
		topic, payload string
		code           byte
	}{
		{"telemetry/truck-7", `{"speed":61.2}`, 0},
		{"telemetry/truck-7/speed", "61.2", 0},
		{"v1/devices/me/telemetry", `{"speed":61.2}`, 0},
		{"telemetry/truck-7", `{"speed":`, 0x99},
		{"telemetry/truck-8", `{"speed":61.2}`, 0x87},
		{"telemetry/a/b/c", "1", 0x90},
	} {
		id := uint16(i + 1)
		c.send(publishPacket(5, 2, id, message.topic, message.payload))
		ack := c.packet()
		if ack[:1] != "\x40" || ack[3] != byte(id) || (message.code == 0) != (len(ack) == 4) {
			t.Fatalf("%+v was answered % x", message, ack)
		}
		if message.code != 0 && ack[4] != message.code {
			t.Fatalf("%+v was answered % x, want %#x", message, ack, message.code)
		}
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if len(log.entries) != 6 {
		t.Fatalf("the log has %d entries, want 3 readings and 3 dead letters", len(log.entries))
	}
	for i, e := range log.entries {
		if (e.Dead != nil) != (i >= 3) {
			t.Fatalf("entry %d is %+v", i, e)
		}
	}
}

// tape is a socket on which the same packet comes again and again.
type tape struct {
	net.Conn
	packet []byte
}

func (p tape) Read(b []byte) (int, error)       { return copy(b, p.packet), nil }
func (p tape) Write(b []byte) (int, error)      { return len(b), nil }
func (p tape) SetReadDeadline(time.Time) error  { return nil }
func (p tape) SetWriteDeadline(time.Time) error { return nil }

// nowGate keeps everything before Accept returns.
type nowGate struct{}

func (nowGate) Accept(_ context.Context, _ ingest.Message, done func(ingest.Outcome)) {
	done(ingest.Outcome{Accepted: 1})
}

func TestAMessageAllocatesLittle(t *testing.T) {
	s, _ := start(t, Config{Gate: nowGate{}})
	c := newConn(tape{packet: []byte(publishPacket(4, 2, 1, "telemetry/truck-7", `{"speed":61.2}`))}, s)
	c.connected, c.opened, c.session = true, true, &session{conn: c}
	perMessage := testing.AllocsPerRun(1000, func() {
		for range 2 { // a read, and the packet
			if err := c.advance(); err != nil {
				t.Fatal(err)
			}
		}
	})
	// The message and its completion; at most as much again for a write of its own.
	if perMessage > 4 {
		t.Fatalf("a message allocates %v times", perMessage)
	}
	s.flushers.Wait()
}
