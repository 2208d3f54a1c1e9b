// Package streamload is a crowd of screens: thousands of light WebSocket or SSE
// clients in one process, which count the readings they receive and measure how
// long each was on its way. Benchmarks and the end-to-end tests use it.
//
//	Run ─▶ client 1 … n ─▶ dial, read in big pieces, count `{"device":` ─▶ Report
//
// Its invariant: it counts readings, not messages, and every byte received goes
// through the count, so that what is reported as delivered was delivered.
package streamload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The kinds of clients there are.
const (
	WS  = "ws"
	SSE = "sse"
)

// Config is what a crowd does.
type Config struct {
	// URL is the base address of the server, http://host:port; Query is what
	// each client subscribes to, in the form of a query string.
	URL, Query string
	Clients    int
	Kind       string // WS or SSE
	// Ready is called once all clients' subscriptions are live; nil: nobody waits.
	Ready func()
	// Received is counted up while readings arrive; nil: nobody looks.
	Received *atomic.Int64
	// Age tells how old a reading is from its canonical JSON; nil: by its time.
	// It is asked for the first reading of each piece that is read.
	Age func(reading []byte, now time.Time) (time.Duration, bool)
}

// Report is what a crowd has received.
type Report struct {
	Counts      []int64  // readings by client
	First, Last []string // the first and last cursor by client
	Bytes       int64
	Latency     Histogram
}

// Total is how many readings all clients received together.
func (r *Report) Total() int64 {
	var sum int64
	for _, n := range r.Counts {
		sum += n
	}
	return sum
}

// Run connects the clients and lets them receive until ctx ends or the server
// closes them. An error before all are connected ends all.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.Age == nil {
		c.Age = ageByTime
	}
	if c.Received == nil {
		c.Received = new(atomic.Int64)
	}
	crowd, err := connect(ctx, &c)
	defer func() {
		for _, client := range crowd {
			_ = client.conn.Close()
		}
	}()
	if err != nil {
		return Report{}, err
	}
	stop := context.AfterFunc(ctx, func() {
		for _, client := range crowd {
			_ = client.conn.SetReadDeadline(time.Now()) // wakes its reader
		}
	})
	defer stop()
	var all sync.WaitGroup
	for _, client := range crowd {
		all.Go(client.read) // ends with ctx or the connection
	}
	if c.Ready != nil {
		c.Ready()
	}
	all.Wait()
	return report(crowd), nil
}

// dialers is how many clients connect at once.
const dialers = 64

// connect answers the clients that are connected, also beside an error.
func connect(ctx context.Context, c *Config) ([]*client, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("streamload: %q is not an address such as http://127.0.0.1:8080", c.URL)
	}
	crowd := make([]*client, c.Clients)
	errs := make([]error, c.Clients)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(dialers, c.Clients) {
		all.Go(func() { // ends when all are dialled
			for i := next.Add(1) - 1; i < int64(c.Clients); i = next.Add(1) - 1 {
				crowd[i], errs[i] = dial(ctx, base.Host, c)
			}
		})
	}
	all.Wait()
	return slices.DeleteFunc(crowd, func(c *client) bool { return c == nil }), errors.Join(errs...)
}

// client is one screen.
type client struct {
	config *Config
	conn   net.Conn
	reader *bufio.Reader

	count       int64
	bytes       int64
	first, last []byte
	latency     Histogram
	keep        []byte // the end of the last piece, which a mark may straddle
}

func dial(ctx context.Context, host string, c *Config) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("streamload: %w", err)
	}
	path, upgrade := "/v1/stream", ""
	if c.Kind == WS {
		path = "/v1/ws"
		upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWlsbHJhY2UgY3Jvd2QhIQ==\r\n"
	}
	query := c.Query
	if query == "" {
		query = "device=*" // a WebSocket subscribes by having parameters
	}
	request := "GET " + path + "?" + query + " HTTP/1.1\r\nHost: " + host + "\r\n" + upgrade + "\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return nil, errors.Join(fmt.Errorf("streamload: %w", err), conn.Close())
	}
	one := &client{config: c, conn: conn, reader: bufio.NewReaderSize(conn, 4096)}
	if err = greet(one.reader); err == nil {
		err = one.awaitLive()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return one, nil
}

// awaitLive reads until the subscription is live; what came before counts.
func (c *client) awaitLive() error {
	var piece []byte
	for !bytes.HasSuffix(piece, []byte("live")) || bytes.LastIndex(piece, []byte("event")) < len(piece)-16 {
		b, err := c.reader.ReadByte()
		if err != nil {
			return fmt.Errorf("streamload: wait for the event live: %w", err)
		}
		piece = append(piece, b)
	}
	c.bytes += int64(len(piece))
	c.scan(piece)
	return nil
}

// greet reads the answer's head.
func greet(r *bufio.Reader) error {
	status, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("streamload: read the answer: %w", err)
	}
	if !strings.Contains(status, fmt.Sprint(" ", http.StatusOK, " ")) && !strings.Contains(status, fmt.Sprint(" ", http.StatusSwitchingProtocols, " ")) {
		return fmt.Errorf("streamload: the server answered %s", strings.TrimSpace(status))
	}
	for line := status; line != "\r\n" && err == nil; {
		line, err = r.ReadString('\n')
	}
	if err != nil {
		return fmt.Errorf("streamload: read the headers: %w", err)
	}
	return nil
}

// mark begins each reading's canonical form and stands nowhere else: quotes
// within strings are escaped.
var mark = []byte(`{"device":"`)

// read counts until the connection ends.
func (c *client) read() {
	buffer := make([]byte, 64<<10)
	for {
		n := copy(buffer, c.keep)
		m, err := c.reader.Read(buffer[n:])
		c.bytes += int64(m)
		c.scan(buffer[:n+m])
		if err != nil {
			return
		}
	}
}

// scan counts the marks of a piece and keeps what may be the beginning of one.
func (c *client) scan(piece []byte) {
	found := int64(bytes.Count(piece, mark))
	if found > 0 {
		c.count += found
		c.config.Received.Add(found)
		at := bytes.Index(piece, mark)
		if age, ok := c.config.Age(piece[at:], time.Now()); ok {
			c.latency.Add(age, found)
		}
	}
	c.cursors(piece)
	tail := min(len(piece), len(mark)-1)
	c.keep = append(c.keep[:0], piece[len(piece)-tail:]...)
}

// cursors notes the first and the last cursor that stand whole in a piece.
func (c *client) cursors(piece []byte) {
	before, end := []byte(`"cursor":"`), byte('"')
	if c.config.Kind == SSE {
		before, end = []byte("\nid: "), '\n'
	}
	if c.first == nil {
		if at := bytes.Index(piece, before); at >= 0 {
			c.first = until(piece[at+len(before):], end)
		}
	}
	if at := bytes.LastIndex(piece, before); at >= 0 {
		if cursor := until(piece[at+len(before):], end); cursor != nil {
			c.last = append(c.last[:0], cursor...)
		}
	}
}

func until(b []byte, end byte) []byte {
	n := bytes.IndexByte(b, end)
	if n < 0 {
		return nil
	}
	return slices.Clone(b[:n])
}

// ageByTime is how long ago a reading's time is.
func ageByTime(reading []byte, now time.Time) (time.Duration, bool) {
	_, rest, ok := bytes.Cut(reading, []byte(`"time":"`))
	text, _, closed := bytes.Cut(rest, []byte(`"`))
	if !ok || !closed {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	return now.Sub(t), err == nil
}

func report(crowd []*client) Report {
	var r Report
	for _, c := range crowd {
		r.Counts = append(r.Counts, c.count)
		r.First = append(r.First, string(c.first))
		r.Last = append(r.Last, string(c.last))
		r.Bytes += c.bytes
		r.Latency.merge(&c.latency)
	}
	return r
}
