package broadcaster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"millrace/telemetry"
)

// ClientConfig is what a transport says about a connection.
type ClientConfig struct {
	// Open takes the connection over. It is called at most once, within Attach,
	// when no limit stands against the client.
	Open    func() (Link, error)
	Form    Form
	Kind    string // ws or sse, for metrics
	Address string // where the client is, without a port, for the limit per address
	// Bye are the last bytes of a connection that ends; nil: none.
	Bye func(Reason) []byte
	// Single: the connection ends with its subscription.
	Single bool
}

// Client is a connection with its subscriptions. Its methods may be called from
// one goroutine at a time; what a client does never makes another wait.
type Client struct {
	hub      *Hub
	form     Form
	out      *outlet
	kind     string
	address  string
	farewell func(Reason) []byte
	single   bool
	live     []*subscription // protected by Hub.mu

	mu       sync.Mutex // protects what follows, and makes operations follow each other
	subs     map[string]*subscription
	departed bool
}

// Attach takes on a connection. The error is a wrapped [telemetry.ErrOverloaded]
// that names the limit, or [telemetry.ErrClosed], and then c.Open was not
// called; or what c.Open said.
func (h *Hub) Attach(c ClientConfig) (*Client, error) {
	client := &Client{hub: h, form: c.Form, kind: c.Kind, address: c.Address, farewell: c.Bye, single: c.Single}
	if err := h.register(client); err != nil {
		return nil, err
	}
	link, err := c.Open()
	if err != nil {
		h.unregister(client)
		return nil, err
	}
	out := newOutlet(link, h.limits.Stall, client.drop)
	h.mu.Lock()
	client.out = out
	closed := h.closed
	h.mu.Unlock()
	h.events.connected(c.Kind)
	if closed {
		client.Close(Stopping)
	}
	return client, nil
}

func (h *Hub) register(c *Client) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return fmt.Errorf("broadcaster: the hub is %w", telemetry.ErrClosed)
	case len(h.clients) >= h.limits.Clients:
		h.events.refused("Clients")
		return fmt.Errorf("broadcaster: %d connections are the limit: %w", h.limits.Clients, telemetry.ErrOverloaded)
	case h.places[c.address] >= h.limits.PerAddress:
		h.events.refused("PerAddress")
		return fmt.Errorf("broadcaster: %d connections from one address are the limit: %w", h.limits.PerAddress, telemetry.ErrOverloaded)
	}
	h.clients[c] = struct{}{}
	h.places[c.address]++
	return nil
}

func (h *Hub) unregister(c *Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
	if h.places[c.address]--; h.places[c.address] == 0 {
		delete(h.places, c.address)
	}
}

// Wait returns nil once the hub is ready to take subscriptions: when it has
// read what was in the log at its start. It waits for patience at most; the
// error is a wrapped [telemetry.ErrUnavailable].
func (h *Hub) Wait(ctx context.Context, patience time.Duration) error {
	select {
	case <-h.ready:
		return nil
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-h.ready:
		return nil
	case <-t.C:
		return fmt.Errorf("broadcaster: the hub is still reading the log; it is %w as yet", telemetry.ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Check says whether a query can be answered: whether its cursor still points
// at something (else a wrapped [telemetry.ErrGone]) and whether there is a past
// to begin in (else a *[telemetry.BadRequest]).
func (h *Hub) Check(ctx context.Context, q *Query) error {
	switch {
	case q.From.InPast() && h.history == nil:
		return &telemetry.BadRequest{Parameter: "from", Detail: "is a time, but there is no database to read the past from: use a cursor"}
	case q.From.InPast() || !Placed(q.From):
		return nil
	}
	h.mu.Lock()
	vec := h.vec
	h.mu.Unlock()
	if _, ok := h.ring.locate(q.From); ok && covers(vec, q.From) {
		return nil
	}
	first, next, err := h.log.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("broadcaster: bounds of the log: %w", err)
	}
	return gone(q.From, first, next)
}

// Subscribe begins a subscription with an id that the connection does not use
// yet. The hub must be ready, see [Hub.Wait].
func (c *Client) Subscribe(id string, q Query) error {
	if err := c.hub.past(&q); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.departed {
		return errLeft
	}
	if _, ok := c.subs[id]; ok {
		return &telemetry.BadRequest{Parameter: "id", Detail: clip(id) + " is in use: unsubscribe it first, or send update"}
	}
	if len(c.subs) >= c.hub.limits.Subscriptions {
		c.hub.events.refused("Subscriptions")
		return &telemetry.BadRequest{Parameter: "id", Detail: fmt.Sprintf("%d subscriptions a connection are the limit: unsubscribe one, or open another connection", c.hub.limits.Subscriptions)}
	}
	s := &subscription{client: c, id: id, query: q, at: q.From.Clone(), snapshot: q.Snapshot}
	if c.subs == nil {
		c.subs = make(map[string]*subscription, 1)
	}
	c.subs[id] = s
	if err := c.hub.enter(s); err != nil {
		delete(c.subs, id)
		return err
	}
	return nil
}

// past refuses a beginning in a past that there is not.
func (h *Hub) past(q *Query) error {
	if q.From.InPast() && h.history == nil {
		return h.Check(context.Background(), q) // does not reach the log
	}
	return nil
}

// Update changes what a subscription wants. It goes on where it is, or at
// q.From where that is given, unless it is paused; the event live tells when it
// is live again.
func (c *Client) Update(id string, q Query) error {
	if err := c.hub.past(&q); err != nil {
		return err
	}
	return c.change(id, func(s *subscription) error {
		s.query, s.snapshot, s.announced = q, q.Snapshot, false
		if Placed(q.From) {
			s.at = q.From.Clone()
		}
		return c.hub.goOn(s)
	})
}

// Unsubscribe ends a subscription: the event end is its last message.
func (c *Client) Unsubscribe(id string) error {
	return c.change(id, func(s *subscription) error {
		delete(c.subs, id)
		c.out.control(c.form.Event(nil, id, &Event{Name: EventEnd, Cursor: s.at}))
		return nil
	})
}

// Pause stops a subscription where it is; a message with its cursor and no
// readings tells that place. Nothing is skipped meanwhile: Resume goes on there.
func (c *Client) Pause(id string) error {
	return c.change(id, func(s *subscription) error {
		s.paused = true
		c.out.control(c.form.Readings(nil, id, &Batch{From: s.at, To: s.at}))
		return nil
	})
}

// Resume goes on where the subscription was paused.
func (c *Client) Resume(id string) error {
	return c.change(id, func(s *subscription) error {
		s.paused = false
		return c.hub.enter(s)
	})
}

// Seek goes on at another place; the zero Cursor is now.
func (c *Client) Seek(id string, to telemetry.Cursor) error {
	if err := c.hub.past(&Query{From: to}); err != nil {
		return err
	}
	return c.change(id, func(s *subscription) error {
		s.at, s.announced, s.paused = to.Clone(), false, false
		return c.hub.enter(s)
	})
}

// Speed changes the speed of playback; 0 is as fast as it goes.
func (c *Client) Speed(id string, speed float64) error {
	return c.change(id, func(s *subscription) error {
		s.query.Speed = speed
		return c.hub.goOn(s)
	})
}

// change halts a subscription and does something to it.
func (c *Client) change(id string, do func(*subscription) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subs[id]
	if s == nil {
		return &telemetry.BadRequest{Parameter: "id", Detail: "there is no subscription " + clip(id) + ": subscribe first"}
	}
	c.hub.halt(s)
	if s.over {
		return &telemetry.BadRequest{Parameter: "id", Detail: "the subscription " + clip(id) + " has ended: subscribe again"}
	}
	return do(s)
}

// ended is called by a subscription's runner when the subscription is over.
func (c *Client) ended(s *subscription, err error) {
	e := Event{Name: EventEnd, Cursor: s.at}
	if !errors.Is(err, errEnded) {
		e = Event{Name: EventError, Cursor: s.at, Err: err}
	}
	c.out.control(c.form.Event(nil, s.id, &e))
	c.mu.Lock()
	if c.subs[s.id] == s {
		delete(c.subs, s.id)
	}
	c.mu.Unlock()
	if c.single {
		c.Close(Left)
	}
}

// Send hands over a message of the transport's own, such as a pong. It never
// waits; a client that does not read its answers is closed with [Flooding].
func (c *Client) Send(b []byte) { c.out.control(b) }

// Close ends the connection, with the transport's last bytes.
func (c *Client) Close(r Reason) {
	c.out.finish(c.bye(r), grace)
	c.drop(r)
}

// Done is closed when the link has been closed.
func (c *Client) Done() <-chan struct{} { return c.out.gone }

func (c *Client) bye(r Reason) []byte {
	if c.farewell == nil {
		return nil
	}
	return c.farewell(r)
}

// drop removes the client from the hub, whoever is first to notice its end.
func (c *Client) drop(r Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.departed {
		return
	}
	c.departed = true
	for _, s := range c.subs {
		c.hub.halt(s)
	}
	c.subs = nil
	c.hub.unregister(c)
	c.hub.events.closed(c.kind, r)
}

// Behind says whether the client has not yet taken what it was given.
func (c *Client) Behind() bool { return c.out.busy() }
