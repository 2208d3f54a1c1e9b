package mqttload

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker answers every packet by answer until it answers nothing.
func broker(t *testing.T, answer func(packet []byte) []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		for {
			head := make([]byte, 2)
			if _, err := io.ReadFull(in, head); err != nil {
				return
			}
			packet := append(head, make([]byte, head[1])...)
			if _, err := io.ReadFull(in, packet[2:]); err != nil {
				return
			}
			out := answer(packet)
			if out == nil {
				return
			}
			_, _ = c.Write(out)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-served })
	return l.Addr().String()
}

// kept acknowledges every packet as it should be.
func kept(packet []byte) []byte {
	switch packet[0] &^ 8 {
	case 0x10:
		return []byte{connack, 2, 0, 0}
	case publish | 2:
		topic := int(packet[2])<<8 | int(packet[3])
		return []byte{puback, 2, packet[4+topic], packet[5+topic]}
	}
	return nil
}

func TestRunCountsAcknowledgements(t *testing.T) {
	result, err := Run(t.Context(), Config{Addr: broker(t, kept), QoS: 1, InFlight: 4, Total: 10})
	if err != nil || result.Sent != 10 || result.Acked != 10 || result.P50 <= 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if !strings.Contains(result.String(), "10 acknowledged") {
		t.Fatal(result.String())
	}
}

func TestRunRefusesAnAnswerOutOfOrder(t *testing.T) {
	addr := broker(t, func(packet []byte) []byte {
		if ack := kept(packet); ack[0] == puback {
			return []byte{puback, 2, 0, 3}
		} else {
			return ack
		}
	})
	if _, err := Run(t.Context(), Config{Addr: addr, QoS: 1, InFlight: 4, Total: 10}); err == nil || !strings.Contains(err.Error(), "for id 1") {
		t.Fatalf("got %v", err)
	}
}

func TestRunTellsHowFarItCame(t *testing.T) {
	n := 0
	addr := broker(t, func(packet []byte) []byte {
		if n++; n > 5 {
			return nil
		}
		return kept(packet)
	})
	result, err := Run(t.Context(), Config{Addr: addr, QoS: 1, Total: 10})
	if err == nil || result.Acked != 4 {
		t.Fatalf("%+v, %v", result, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	addr := broker(t, func(packet []byte) []byte {
		if packet[0] != 0x10 {
			cancel()
			return []byte{} // and no acknowledgement
		}
		return kept(packet)
	})
	if _, err := Run(ctx, Config{Addr: addr, QoS: 1, Duration: time.Hour}); err == nil {
		t.Fatal("no error")
	}
}

func TestRunNamesARefusedLogin(t *testing.T) {
	addr := broker(t, func([]byte) []byte { return []byte{connack, 2, 0, 5} })
	if _, err := Run(t.Context(), Config{Addr: addr, Total: 1}); err == nil || !strings.Contains(err.Error(), "refused the CONNECT") {
		t.Fatalf("got %v", err)
	}
	if _, err := Run(t.Context(), Config{Addr: addr}); err == nil {
		t.Fatal("a run without an end began")
	}
}
