// Package simulator is devices where there are none: a [Fleet] of invented ones
// that behave like real ones, and [Play], which lets a recording in a CSV file
// be said again by the devices that said it.
//
//	Fleet: trucks, stations ──┐ by device     ┌▶ link ──paho──▶ broker
//	Play: file ─▶ table ─▶ rows ┴──────────────┴▶ link ──paho──▶ broker
//
// Its invariant: what is published is published in each device's order and stays
// in its link's window until the broker has acknowledged it, whatever happens to
// the connection: a link re-sends its whole window, in order, on the next one.
// So nothing is lost, and a broker may see a message twice.
package simulator

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Broker is where to publish, and as whom.
type Broker struct {
	// URL is mqtt://host:port, mqtts://, ws://, wss:// or a bare host:port.
	URL string
	// User and Password log in; both may be empty.
	User, Password string
	// Patience is how long a lost broker may stay away before giving up; 0: two
	// minutes; negative: for ever, also before the first connection.
	Patience time.Duration
}

// Events tells what happens to a fleet or a play. Each may be nil. They are
// called from several goroutines and must not block.
type Events struct {
	Acknowledged func(messages int)              // the broker has them
	Lost         func(client string, err error)  // a connection was lost; it is made again
	Connected    func(client string, resent int) // and this many messages are sent again
	Skipped      func(readings int)              // a fleet's devices fell silent, because the broker does not keep up
}

// address parses the URL, with the scheme that a bare host:port lacks.
func (b Broker) address() (*url.URL, error) {
	text := b.URL
	if text == "" {
		return nil, errors.New("no broker: give its address, such as mqtt://127.0.0.1:1883")
	}
	if !strings.Contains(text, "://") {
		text = "mqtt://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("broker address %q is not like mqtt://host:1883", b.redacted())
	}
	switch u.Scheme {
	case "mqtt", "mqtts", "tcp", "ssl", "tls", "ws", "wss":
	default:
		return nil, fmt.Errorf("broker address %s: scheme %q is none of mqtt, mqtts, ws, wss", u.Redacted(), u.Scheme)
	}
	if u.Port() == "" {
		port := map[string]string{"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883"}[u.Scheme]
		if port != "" {
			u.Host += ":" + port
		}
	}
	return u, nil
}

// redacted is the URL without a password that may stand in it.
func (b Broker) redacted() string {
	before, after, found := strings.Cut(b.URL, "@")
	if !found {
		return b.URL
	}
	scheme, _, _ := strings.Cut(before, "://")
	return scheme + "://…@" + after
}
