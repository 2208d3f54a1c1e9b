package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// follower is a screen: it collects what a stream shows, by device.
type follower struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when want readings have come or the stream has ended

	mu     sync.Mutex // protects what follows
	want   int
	count  int
	lines  map[string][]string
	cursor string
	err    error
}

func newFollower(want int, cancel context.CancelFunc) *follower {
	return &follower{cancel: cancel, done: make(chan struct{}), want: want, lines: map[string][]string{}}
}

// add notes one reading; it answers false once all have come.
func (f *follower) add(line, cursor string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	var reading struct{ Device string }
	if err := json.Unmarshal([]byte(line), &reading); err != nil {
		f.err = err
		return false
	}
	f.lines[reading.Device] = append(f.lines[reading.Device], line)
	f.cursor = cursor
	f.count++
	return f.count < f.want
}

// wait answers all readings by device, once as many as wanted have come. What
// comes too often is found by comparing; what does not come ends the test.
func (f *follower) wait(t *testing.T) map[string][]string {
	t.Helper()
	select {
	case <-f.done:
	case <-time.After(3 * time.Minute):
	}
	f.cancel()
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count < f.want {
		t.Errorf("%d readings came, want %d (%v)", f.count, f.want, f.err)
	}
	return f.lines
}

// followSSE listens as curl -N does, from before it returns on.
func (d *deployment) followSSE(want int) *follower {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.http+"/v1/stream", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		d.t.Fatalf("GET /v1/stream: %v %v", response, err)
	}
	f := newFollower(want, cancel)
	live := make(chan struct{})
	go func() { // ends when all have come, or when cancel ends the stream
		defer close(f.done)
		defer response.Body.Close()
		f.readSSE(bufio.NewScanner(response.Body), sync.OnceFunc(func() { close(live) }))
	}()
	d.t.Cleanup(cancel)
	<-live
	return f
}

func (f *follower) readSSE(scanner *bufio.Scanner, live func()) {
	scanner.Buffer(nil, 1<<20)
	event, data, id := "", "", ""
	for scanner.Scan() {
		name, value, _ := strings.Cut(scanner.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			event = value
		case "data":
			data = value
		case "id":
			id = value
		case "":
			if event == "live" {
				live()
			}
			if event == "" && data != "" && !f.add(data, id) {
				return
			}
			event, data = "", ""
		}
	}
	f.err = scanner.Err()
}

// followWebSocket subscribes to everything, from before it returns on.
func (d *deployment) followWebSocket(want int) *follower {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	socket, _, err := websocket.Dial(ctx, "ws://"+d.http+"/v1/ws", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	socket.SetReadLimit(8 << 20)
	if err := socket.Write(ctx, websocket.MessageText, []byte(`{"op":"subscribe","id":"a"}`)); err != nil {
		d.t.Fatal(err)
	}
	f := newFollower(want, cancel)
	live := make(chan struct{})
	go func() { // ends when all have come, or when cancel ends the connection
		defer close(f.done)
		defer socket.CloseNow()
		f.readSocket(ctx, socket, sync.OnceFunc(func() { close(live) }))
	}()
	d.t.Cleanup(cancel)
	<-live
	return f
}

func (f *follower) readSocket(ctx context.Context, socket *websocket.Conn, live func()) {
	for {
		_, text, err := socket.Read(ctx)
		if err != nil {
			f.err = err
			return
		}
		var message struct {
			Event, Cursor string
			Readings      []json.RawMessage
		}
		if f.err = json.Unmarshal(text, &message); f.err != nil {
			return
		}
		if message.Event == "live" {
			live()
		}
		for _, reading := range message.Readings {
			if !f.add(string(reading), message.Cursor) {
				return
			}
		}
	}
}
