package simulator

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	// writeTimeout bounds one write, and how long paho's Publish goes on waiting
	// on a connection that is gone already.
	writeTimeout   = 5 * time.Second
	connectTimeout = 10 * time.Second
	qos            = 1
)

// message is what a link carries.
type message struct {
	topic   string
	payload []byte
}

// session is one connection: it sends what it is given, in order, and tells of
// each acknowledgement, in the same order, until the connection fails.
//
// paho could reconnect by itself, but then it completes the tokens of messages
// it re-sends as if they were acknowledged, re-sends in an order of its own, and
// lets new messages in between. So each session is a client of its own with
// nothing to remember, and the link remembers.
type session struct {
	client mqtt.Client
	queue  chan message    // room for a whole window, so that the link never waits
	sent   chan mqtt.Token // the same room
	acked  chan struct{}   // the same room
	failed chan error      // room for one: the first failure
}

// dial connects. The goroutines it starts are counted in running; they end when
// close was called and the connection is gone.
func dial(ctx context.Context, config *linkConfig, running *sync.WaitGroup) (*session, error) {
	s := &session{
		queue: make(chan message, window), sent: make(chan mqtt.Token, window),
		acked: make(chan struct{}, window), failed: make(chan error, 1),
	}
	s.client = mqtt.NewClient(s.options(config))
	token := s.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		s.client.Disconnect(0)
		return nil, ctx.Err()
	}
	if err := token.Error(); err != nil {
		return nil, connectError(config.address, err)
	}
	running.Go(s.publish)
	running.Go(s.acknowledge)
	return s, nil
}

func (s *session) options(config *linkConfig) *mqtt.ClientOptions {
	options := mqtt.NewClientOptions()
	options.Servers = []*url.URL{config.address}
	options.SetClientID(config.client).SetCleanSession(true)
	options.SetProtocolVersion(4).SetAutoReconnect(false).SetConnectRetry(false)
	options.SetConnectTimeout(connectTimeout).SetWriteTimeout(writeTimeout)
	// A broker that holds back its acknowledgements is slow, not dead.
	options.SetKeepAlive(30 * time.Second).SetPingTimeout(30 * time.Second)
	options.SetUsername(config.user).SetPassword(config.password)
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.fail(err) })
	if config.address.User == nil && (config.address.Scheme == "mqtt" || config.address.Scheme == "tcp") {
		options.SetCustomOpenConnectionFn(openBuffered)
	}
	return options
}

func (s *session) fail(err error) {
	select {
	case s.failed <- err:
	default: // failed already
	}
}

// publish hands messages to paho, whose Publish may wait for long.
func (s *session) publish() {
	defer close(s.sent)
	for m := range s.queue {
		s.sent <- s.client.Publish(m.topic, qos, false, m.payload)
	}
}

// acknowledge waits for each message's acknowledgement. On a lost connection
// paho completes all tokens, with an error.
func (s *session) acknowledge() {
	for token := range s.sent {
		<-token.Done()
		if err := token.Error(); err != nil {
			s.fail(err)
			break
		}
		s.acked <- struct{}{}
	}
	for range s.sent { // failed: the rest is the next session's
	}
}

// close ends the session; politely if the connection is good.
func (s *session) close(good bool) {
	close(s.queue)
	quiesce := uint(0)
	if good {
		quiesce = 1000 // ms; it waits no longer than the DISCONNECT takes
	}
	s.client.Disconnect(quiesce)
}

// errRefused marks a broker's answer that trying again does not change.
var errRefused = errors.New("the broker refuses this client")

func connectError(address *url.URL, err error) error {
	for _, permanent := range []error{
		packets.ErrorRefusedBadProtocolVersion, packets.ErrorRefusedIDRejected,
		packets.ErrorRefusedBadUsernameOrPassword, packets.ErrorRefusedNotAuthorised,
	} {
		if errors.Is(err, permanent) {
			return fmt.Errorf("connect to %s: %w: %w: check user and password", address.Redacted(), errRefused, err)
		}
	}
	return fmt.Errorf("connect to %s: %w: check that a broker listens there", address.Redacted(), err)
}
