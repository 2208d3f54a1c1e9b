package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"millrace/ingest"
)

const (
	connectTimeout = 10 * time.Second
	// writeTimeout bounds one write to the other broker.
	writeTimeout = 5 * time.Second
	// answerTime is how long leaving waits for the other broker's answer.
	answerTime = 2 * time.Second
	quiesce    = 250 // ms that a disconnect may take; it takes as long as its packet
)

// session is one connection to the other broker. Each has a paho client of its
// own: paho's reconnecting would keep acknowledgement functions that belong to a
// connection that is gone.
type session struct {
	bridge *Bridge
	intake *intake
	client mqtt.Client
	lost   chan error // room for one
	resume bool       // the broker had kept the session
	gone   bool       // the connection was lost or left; belongs to run's goroutine
}

// errFull ends a session that had to leave messages.
var errFull = errors.New("more messages came than there is room for; what was taken is acknowledged, the rest comes again")

// connect connects and subscribes. A broker that has kept the session has kept
// its subscriptions; asking again would have retained messages sent again. A
// process asks until it was answered once, because topics may have changed, and
// because a session may have been kept that was lost before its SUBACK.
func (b *Bridge) connect(ctx context.Context) (*session, error) {
	s := &session{bridge: b, intake: newIntake(b.limits), lost: make(chan error, 1)}
	s.client = mqtt.NewClient(s.options())
	token := s.client.Connect()
	if err := wait(ctx, token); err != nil {
		// The broker may have made a new session whose CONNACK we never saw; the
		// next one would then look kept, without a subscription.
		b.subscribed = false
		s.client.Disconnect(0)
		return nil, fmt.Errorf("connect to %s: %w: check that a broker listens there, user and password",
			b.address.Redacted(), err)
	}
	if connected, ok := token.(*mqtt.ConnectToken); ok {
		s.resume = connected.SessionPresent()
	}
	if !s.resume {
		b.subscribed = false
	}
	if !b.subscribed {
		if err := s.subscribe(ctx); err != nil {
			// What came meanwhile is unacknowledged and comes again.
			s.client.Disconnect(quiesce)
			return nil, err
		}
		b.subscribed = true
	}
	if b.config.Events.Connected != nil {
		b.config.Events.Connected(s.resume)
	}
	b.config.Log.Info("bridge connected", "from", b.address.Redacted(), "topics", b.config.Topics, "resumed", s.resume)
	return s, nil
}

func (s *session) options() *mqtt.ClientOptions {
	config := &s.bridge.config
	options := mqtt.NewClientOptions()
	options.Servers = []*url.URL{s.bridge.address}
	options.SetClientID(config.ClientID).SetCleanSession(false).SetProtocolVersion(4)
	options.SetUsername(config.User).SetPassword(config.Password)
	options.SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false)
	options.SetConnectTimeout(connectTimeout).SetWriteTimeout(writeTimeout)
	options.SetKeepAlive(30 * time.Second).SetPingTimeout(10 * time.Second)
	options.SetAutoAckDisabled(true).SetOrderMatters(true)
	if config.TLS != nil {
		options.SetTLSConfig(config.TLS)
	}
	// One handler for all, and no routes: what a kept session has for us comes
	// before any subscription, and paho calls every route that matches.
	options.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { s.receive(m) })
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.lost <- err })
	return options
}

// receive never blocks: paho reads the connection meanwhile.
func (s *session) receive(d delivery) {
	events := &s.bridge.config.Events
	if events.Received != nil {
		events.Received(len(d.Payload()))
	}
	if !s.intake.take(d) && d.Qos() == 0 && events.Dropped != nil {
		events.Dropped(1)
	}
}

func (s *session) subscribe(ctx context.Context) error {
	filters := make(map[string]byte)
	for _, topic := range s.bridge.config.Topics {
		filters[topic] = s.bridge.config.QoS
	}
	token := s.client.SubscribeMultiple(filters, nil)
	if err := wait(ctx, token); err != nil {
		return fmt.Errorf("subscribe at %s: %w", s.bridge.address.Redacted(), err)
	}
	subscribed, ok := token.(*mqtt.SubscribeToken)
	if !ok {
		return nil
	}
	for topic, granted := range subscribed.Result() {
		if granted > 2 { // 0x80, MQTT-3.9.3-2
			return fmt.Errorf("%s refuses the subscription to %s: check what user %q may read",
				s.bridge.address.Redacted(), topic, s.bridge.config.User)
		}
	}
	return nil
}

// wait waits for the token, at most for a while.
func wait(ctx context.Context, token mqtt.Token) error {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout+5*time.Second, errors.New("no answer"))
	defer cancel()
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run works until the connection is lost, the log fails, the intake was full and
// has been emptied, or ctx is cancelled. It returns when the gate has answered
// for all it was handed, or life is over.
func (s *session) run(ctx, life context.Context) error {
	handing, stopHanding := context.WithCancel(life)
	var running sync.WaitGroup
	running.Go(func() { s.hand(handing, life) })
	err := s.watch(ctx)
	s.intake.close()
	if ctx.Err() == nil {
		s.leave() // what comes later is for the next session
	}
	s.drain(life)
	s.leave()
	stopHanding()
	running.Wait()
	return err
}

// leave disconnects, once the broker has read the acknowledgements. It answers
// in order, so its answer to anything sent behind them says so. Without, a broker
// that is just sending finds the connection closed, and forgets what it has not
// yet read.
func (s *session) leave() {
	if !s.gone {
		s.client.Unsubscribe("millrace/nothing").WaitTimeout(answerTime)
		s.client.Disconnect(quiesce)
		s.gone = true
	}
}

// watch acknowledges, until the session is over for a reason.
func (s *session) watch(ctx context.Context) error {
	for {
		select {
		case <-s.intake.settled:
			s.acknowledge()
			emptied, _, failed := s.intake.state()
			if failed != nil {
				return fmt.Errorf("the log did not take a message: %w", failed)
			}
			if emptied {
				return errFull
			}
		case err := <-s.lost:
			s.gone = true
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// drain acknowledges until the gate has answered for all, or life is over.
func (s *session) drain(life context.Context) {
	for {
		s.acknowledge()
		if _, idle, _ := s.intake.state(); idle {
			return
		}
		select {
		case <-s.intake.settled:
		case <-life.Done():
			return
		}
	}
}

// acknowledge acknowledges what the log has, in the order in which it came
// (MQTT-4.6.0-2). On a connection that is gone paho lets it fall.
func (s *session) acknowledge() {
	events := &s.bridge.config.Events
	done, dropped := s.intake.settle()
	for _, i := range done {
		i.Ack()
	}
	if s.gone {
		done = nil
	}
	s.intake.acknowledged(len(done))
	if len(done) > 0 && events.Acknowledged != nil {
		events.Acknowledged(len(done))
	}
	if dropped > 0 && events.Dropped != nil {
		events.Dropped(dropped)
	}
}

// hand hands messages to the gate, which may wait for room in the log.
func (s *session) hand(ctx, life context.Context) {
	for {
		i := s.intake.next()
		if i == nil {
			select {
			case <-s.intake.arrived:
				continue
			case <-ctx.Done():
				return
			}
		}
		m := ingest.Message{
			Source: "bridge", Topic: i.Topic(), Client: s.bridge.address.Host,
			Payload: i.Payload(), Wait: i.Qos() > 0,
		}
		m.Publisher.Open = true // the other broker has let them publish
		s.bridge.route(&m)
		s.bridge.config.Gate.Accept(life, m, func(o ingest.Outcome) { s.finish(i, o) })
	}
}

func (s *session) finish(i *item, o ingest.Outcome) {
	if o.Err != nil && s.bridge.config.Events.Failed != nil {
		s.bridge.config.Events.Failed(o.Err)
	}
	s.intake.finish(i, o.Err)
}

// worked says whether the session has acknowledged anything: then the next one
// need not wait.
func (s *session) worked() bool {
	s.intake.mu.Lock()
	defer s.intake.mu.Unlock()
	return s.intake.acked > 0 && s.intake.failed == nil
}
