package dashboard_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"millrace/dashboard"
)

// said is a reading as it goes over the wire.
type said struct {
	Device string         `json:"device"`
	Time   string         `json:"time"`
	Values map[string]any `json:"values"`
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// subscribe is what a page asks for.
type subscribe struct {
	Op       string `json:"op"`
	ID       string `json:"id"`
	From     string `json:"from"`
	Snapshot bool   `json:"snapshot"`
}

// live is a server that speaks to the page as the broadcaster does, and keeps
// its log in memory. It can be stopped and started again on the same address.
type live struct {
	t             testing.TB
	addr          string
	subscriptions chan subscribe // as they come in
	pages         chan string    // the query strings of connections as they come in

	mu     sync.Mutex // protects what follows
	log    []said
	grown  chan struct{} // closed when the log grows
	token  string        // wanted, unless empty
	refuse string        // an error event for every subscription with a cursor
	stored bool          // whether /v1/readings answers
	down   func()
}

func newLive(t testing.TB) *live {
	l := &live{
		t: t, stored: true, grown: make(chan struct{}),
		subscriptions: make(chan subscribe, 100), pages: make(chan string, 100),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.addr = listener.Addr().String()
	l.serve(listener)
	t.Cleanup(func() { l.down() })
	return l
}

func (l *live) start() {
	l.t.Helper()
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		l.t.Fatal(err)
	}
	l.serve(listener)
}

// serve answers until down is called, which returns when nothing runs any more.
func (l *live) serve(listener net.Listener) {
	ctx, stop := context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.Handle("/", dashboard.Handler())
	mux.HandleFunc("GET /v1/ws", func(w http.ResponseWriter, r *http.Request) { l.connect(ctx, w, r) })
	mux.HandleFunc("GET /v1/readings", l.readings)
	mux.HandleFunc("GET /v1/series", l.series)
	var busy sync.WaitGroup
	// http.Server.Close does not wait for its handlers.
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		open := ctx.Err() == nil
		if open {
			busy.Add(1)
		}
		l.mu.Unlock()
		if open {
			defer busy.Done()
			mux.ServeHTTP(w, r)
		}
	})
	server := &http.Server{Handler: counted, ReadHeaderTimeout: time.Minute}
	busy.Go(func() { _ = server.Serve(listener) })
	l.down = sync.OnceFunc(func() {
		l.set(stop)
		_ = server.Close()
		busy.Wait()
	})
}

// say appends readings to the log.
func (l *live) say(readings ...said) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, readings...)
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *live) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// since is what was said from n on, and the channel that closes when there is more.
func (l *live) since(n int) ([]said, chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log[n:], l.grown
}

// latest is one reading a device with the newest of its values.
func (l *live) latest() ([]said, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := map[string]int{}
	var latest []said
	for _, each := range l.log {
		i, known := found[each.Device]
		if !known {
			i = len(latest)
			found[each.Device] = i
			latest = append(latest, said{Device: each.Device, Values: map[string]any{}})
		}
		latest[i].Time = each.Time
		for metric, value := range each.Values {
			latest[i].Values[metric] = value
		}
	}
	return latest, len(l.log)
}

func (l *live) connect(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	token, refuse := l.token, l.refuse
	l.mu.Unlock()
	if token != "" && r.URL.Query().Get("token") != token {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	l.pages <- r.URL.RawQuery
	var wanted subscribe
	if !receive(ctx, conn, &wanted) {
		return
	}
	l.subscriptions <- wanted
	if refuse != "" && wanted.From != "" {
		send(ctx, conn, map[string]any{"id": wanted.ID, "event": "error", "status": 410, "detail": refuse})
		wanted = subscribe{}
		if !receive(ctx, conn, &wanted) {
			return
		}
		l.subscriptions <- wanted
	}
	l.follow(conn.CloseRead(ctx), conn, wanted)
}

func (l *live) follow(ctx context.Context, conn *websocket.Conn, wanted subscribe) {
	n, _ := strconv.Atoi(strings.TrimPrefix(wanted.From, "n"))
	if wanted.Snapshot {
		var latest []said
		latest, n = l.latest()
		send(ctx, conn, map[string]any{"id": wanted.ID, "event": "snapshot", "cursor": place(n), "readings": latest})
	}
	caughtUp := false
	for {
		more, grown := l.since(n)
		n += len(more)
		if len(more) > 0 {
			send(ctx, conn, map[string]any{"id": wanted.ID, "cursor": place(n), "readings": more})
		}
		if !caughtUp {
			caughtUp = true
			send(ctx, conn, map[string]any{"id": wanted.ID, "event": "live", "cursor": place(n)})
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return
		}
	}
}

func place(n int) string { return fmt.Sprintf("n%d", n) }

// find is what was said of the metric and the device asked for, the oldest first.
func (l *live) find(query url.Values) []said {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, to := query.Get("from"), query.Get("to")
	found := []said{}
	for _, each := range l.log {
		_, has := each.Values[query.Get("metric")]
		if has && each.Device == query.Get("device") && each.Time >= from && (to == "" || each.Time < to) {
			found = append(found, each)
		}
	}
	return found
}

// answer refuses parameters that the query API does not know, as it does.
func (l *live) answer(w http.ResponseWriter, query url.Values, known string, body any) {
	l.mu.Lock()
	stored := l.stored
	l.mu.Unlock()
	if !stored {
		http.Error(w, "no database", http.StatusServiceUnavailable)
		return
	}
	for name := range query {
		if !slices.Contains(strings.Fields(known), name) {
			http.Error(w, "there is no parameter "+name, http.StatusUnprocessableEntity)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func (l *live) readings(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	found := l.find(query)
	if query.Get("order") == "desc" {
		slices.Reverse(found)
	}
	if limit, err := strconv.Atoi(query.Get("limit")); err == nil {
		found = found[:min(limit, len(found))]
	}
	l.answer(w, query, "device metric from to order limit", found)
}

// series is a bucket for each reading, as of a device that speaks once a minute.
func (l *live) series(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	buckets := []map[string]any{}
	for _, each := range l.find(query) {
		value := each.Values[query.Get("metric")]
		buckets = append(buckets, map[string]any{"bucket": each.Time, "device": each.Device, "metric": query.Get("metric"), "count": 1, "avg": value})
	}
	l.answer(w, query, "device metric from to bucket", buckets)
}

func receive(ctx context.Context, conn *websocket.Conn, into any) bool {
	_, text, err := conn.Read(ctx)
	return err == nil && json.Unmarshal(text, into) == nil
}

func send(ctx context.Context, conn *websocket.Conn, message any) {
	text, err := json.Marshal(message)
	if err != nil {
		panic("impossible, because tests say only what JSON can carry: " + err.Error())
	}
	_ = conn.Write(ctx, websocket.MessageText, text) // a page that is gone needs no answer
}
