package simulator_test

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// recorder is a broker that writes down each message before it acknowledges it,
// and that can be killed and brought back.
type recorder struct {
	t    *testing.T
	addr string

	mu       sync.Mutex
	listener net.Listener // guarded by mu; nil: killed
	conns    map[net.Conn]bool
	got      map[string][]string // payloads by topic, in order of receipt
	count    int
	clients  map[string]string // user by client id
	at       map[int]chan struct{}
	deaf     bool // reads, but does not acknowledge
	refuse   byte // answer to CONNECT
	serving  sync.WaitGroup
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{
		t: t, addr: "127.0.0.1:0", conns: make(map[net.Conn]bool), got: make(map[string][]string),
		clients: make(map[string]string), at: make(map[int]chan struct{}),
	}
	r.start()
	t.Cleanup(func() { r.kill(); r.serving.Wait() })
	return r
}

func (r *recorder) start() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.listener, r.addr = listener, listener.Addr().String()
	r.mu.Unlock()
	r.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns[conn] = true
			r.mu.Unlock()
			r.serving.Go(func() { r.serve(conn) })
		}
	})
}

// kill ends all connections at once, without a word.
func (r *recorder) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		_ = r.listener.Close()
	}
	r.listener = nil
	r.dropLocked()
}

func (r *recorder) dropLocked() {
	for conn := range r.conns {
		_ = conn.Close()
	}
	clear(r.conns)
}

// drop ends all connections; new ones are welcome.
func (r *recorder) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked()
}

func (r *recorder) serve(conn net.Conn) {
	defer conn.Close()
	for {
		packet, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		answer := r.answer(packet)
		if answer == nil {
			continue
		}
		if answer.Write(conn) != nil {
			return
		}
	}
}

func (r *recorder) answer(packet packets.ControlPacket) packets.ControlPacket {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch p := packet.(type) {
	case *packets.ConnectPacket:
		r.clients[p.ClientIdentifier] = p.Username
		answer := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
		answer.ReturnCode = r.refuse
		return answer
	case *packets.PublishPacket:
		r.got[p.TopicName] = append(r.got[p.TopicName], string(p.Payload))
		r.count++
		if c := r.at[r.count]; c != nil {
			close(c)
		}
		if r.deaf {
			return nil
		}
		answer := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		answer.MessageID = p.MessageID
		return answer
	case *packets.PingreqPacket:
		return packets.NewControlPacket(packets.Pingresp)
	}
	return nil
}

// received is closed when n messages have come.
func (r *recorder) received(n int) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := make(chan struct{})
	if r.count >= n {
		close(c)
	} else {
		r.at[n] = c
	}
	return c
}

func (r *recorder) setDeaf(deaf bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = deaf
}

// said is what a device said, and the payloads with repetitions taken out: each
// where it came first.
func (r *recorder) said(device string) (all, once []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all = r.got["telemetry/"+device]
	seen := make(map[string]bool)
	for _, payload := range all {
		if !seen[payload] {
			once = append(once, payload)
		}
		seen[payload] = true
	}
	return slices.Clone(all), once
}

func (r *recorder) devices() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for topic := range r.got {
		list = append(list, strings.TrimPrefix(topic, "telemetry/"))
	}
	slices.Sort(list)
	return list
}
