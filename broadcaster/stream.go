package broadcaster

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"millrace/telemetry"
)

// retry is how many milliseconds a browser waits before it connects again.
const retry = "retry: 2000\n\n"

// patience is how long a client waits for a hub that is still reading the log.
const patience = 10 * time.Second

// stream answers GET /v1/stream.
func (f *front) stream(w http.ResponseWriter, r *http.Request) {
	q, err := f.streamQuery(r)
	if err == nil {
		err = f.hub.Wait(r.Context(), patience)
	}
	if err == nil {
		err = f.hub.Check(r.Context(), &q)
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx would hold events back
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return
	}
	if r.ProtoMajor == 1 && r.ProtoMinor >= 1 && f.streamHijacked(w, r, q) {
		return
	}
	f.streamPlain(w, r, q)
}

func (f *front) streamQuery(r *http.Request) (Query, error) {
	now := time.Now()
	q, err := ParseQuery(r.URL.Query(), now)
	if err != nil {
		return q, err
	}
	// A browser that connects again says so in this header; the query is still
	// that of the page.
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		if q.From, err = telemetry.ParseCursor(id); err != nil {
			return q, err
		}
		q.Snapshot = false
	}
	return q, q.check()
}

func (f *front) client(r *http.Request, open func() (Link, error)) ClientConfig {
	return ClientConfig{Open: open, Form: sseForm{}, Kind: "sse", Address: f.address(r), Single: true}
}

// streamHijacked takes the connection from net/http: a stream then costs 5 KB
// where a handler that stays costs 24. Nothing reads from it: that a client has
// left is seen by the next write, a heartbeat at the latest. It answers false
// if the connection cannot be taken.
func (f *front) streamHijacked(w http.ResponseWriter, r *http.Request, q Query) bool {
	hijackable := true
	c, err := f.hub.Attach(f.client(r, func() (Link, error) {
		conn, _, err := http.NewResponseController(w).Hijack()
		hijackable = err == nil
		if err != nil {
			return nil, err
		}
		return conn, nil
	}))
	switch {
	case !hijackable:
		return false
	case err != nil:
		f.refuse(w, r, err)
		return true
	}
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	_ = w.Header().Write(&head) // a bytes.Buffer takes all
	head.WriteString("\r\n" + retry)
	c.Send(head.Bytes())
	f.subscribe(c, q)
	return true
}

func (f *front) subscribe(c *Client, q Query) {
	if err := c.Subscribe("", q); err != nil {
		c.Send(c.form.Event(nil, "", &Event{Name: EventError, Err: err}))
		c.Close(Left)
	}
}

// streamPlain streams through net/http, for HTTP/2.
func (f *front) streamPlain(w http.ResponseWriter, r *http.Request, q Query) {
	link := &plainLink{w: w, control: http.NewResponseController(w), closed: make(chan struct{})}
	c, err := f.hub.Attach(f.client(r, func() (Link, error) { return link, nil }))
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	c.Send([]byte(retry))
	f.subscribe(c, q)
	select {
	case <-c.Done():
	case <-r.Context().Done():
		c.Close(Left)
	}
	link.end()
}

// plainLink is a response that is streamed by net/http. Its handler must not
// return while somebody writes.
type plainLink struct {
	w       http.ResponseWriter
	control *http.ResponseController
	once    sync.Once
	closed  chan struct{}

	mu   sync.Mutex // protects w
	over bool       // the handler returns: w must not be touched
}

func (l *plainLink) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0, net.ErrClosed
	}
	n, err := l.w.Write(b)
	if err == nil {
		err = l.control.Flush()
	}
	return n, err
}

func (l *plainLink) SetWriteDeadline(t time.Time) error {
	err := l.control.SetWriteDeadline(t)
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

func (l *plainLink) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// end makes sure that nobody writes any more.
func (l *plainLink) end() {
	<-l.closed
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}
