// Package mqttload is a load generator for MQTT brokers that costs as little as
// it can, so that what is measured on a shared machine is the broker.
//
//	Run ─▶ connection × N:  window of packets ─▶ socket ─▶ acknowledgements
//	                             ▲───────── as many as came back ─────┘
//
// Its invariant: never more than InFlight messages of a connection are
// unacknowledged, and every acknowledgement is checked to be for the oldest of
// them: a broker that answers out of order or twice is an error, not a figure.
//
// It speaks MQTT 3.1.1, writes packets by hand, and looks at an acknowledgement's
// four bytes and nothing else.
package mqttload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config of a run. Addr is required, and Total or Duration.
type Config struct {
	Addr        string
	Connections int  // 0: 1
	InFlight    int  // messages a connection may have unacknowledged; 0: 1
	QoS         byte // 0, 1 or 2. QoS 0 ends with a PING that the broker answers
	// Topic of a connection's messages; nil: telemetry/load-N.
	Topic func(conn int) string
	// Payload of the nth message of a connection. It is copied; nil: a JSON
	// reading of about 70 bytes, always the same, whose packets are encoded once.
	Payload func(conn, n int) []byte
	// Login of a connection; nil: none.
	Login func(conn int) (user, password string)
	// ClientID of a connection; nil: load-N.
	ClientID func(conn int) string
	Total    int           // messages of all connections together
	Duration time.Duration // or: go on for so long
}

// Result of a run.
type Result struct {
	Sent    int           // messages written
	Acked   int           // of them, acknowledged to the end (QoS 0: written)
	Elapsed time.Duration // from the first message to the last acknowledgement; connecting is not in it
	// Latencies of a sample of messages, from the write to its acknowledgement;
	// zero for QoS 0.
	P50, P99 time.Duration
}

// Rate is acknowledged messages a second.
func (r Result) Rate() float64 { return float64(r.Acked) / r.Elapsed.Seconds() }

// String is one line.
func (r Result) String() string {
	return fmt.Sprintf("%d acknowledged in %v: %.0f/s, p50 %v, p99 %v",
		r.Acked, r.Elapsed.Round(time.Millisecond), r.Rate(), r.P50, r.P99)
}

// Run connects all connections, then sends on all until Total or Duration is
// reached and everything is acknowledged, or until ctx is cancelled. On an error
// the result says how far it came.
func Run(ctx context.Context, config Config) (Result, error) {
	config = config.withDefaults()
	if config.Total <= 0 && config.Duration <= 0 {
		return Result{}, errors.New("mqttload: neither a total nor a duration is given")
	}
	senders := make([]*sender, config.Connections)
	defer func() {
		for _, s := range senders {
			s.close()
		}
	}()
	if err := connect(ctx, config, senders); err != nil {
		return Result{}, err
	}
	unblock := context.AfterFunc(ctx, func() {
		for _, s := range senders {
			s.close()
		}
	})
	defer unblock()
	start := time.Now()
	group := errgroup.Group{}
	for _, s := range senders {
		s.start(start)
		group.Go(s.run)
	}
	err := group.Wait()
	result := sum(senders)
	result.Elapsed = time.Since(start)
	return result, errors.Join(ctx.Err(), err)
}

func (c Config) withDefaults() Config {
	c.Connections, c.InFlight = max(c.Connections, 1), max(c.InFlight, 1)
	if c.Topic == nil {
		c.Topic = func(conn int) string { return fmt.Sprintf("telemetry/load-%d", conn) }
	}
	if c.ClientID == nil {
		c.ClientID = func(conn int) string { return fmt.Sprintf("load-%d", conn) }
	}
	if c.Login == nil {
		c.Login = func(int) (user, password string) { return "", "" }
	}
	return c
}

// connect opens all connections, some at a time.
func connect(ctx context.Context, config Config, senders []*sender) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	var mu sync.Mutex
	for i := range senders {
		group.Go(func() error {
			s, err := dial(ctx, config, i)
			if err != nil {
				return fmt.Errorf("mqttload: connection %d: %w", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			senders[i] = s
			return nil
		})
	}
	return group.Wait()
}

func sum(senders []*sender) Result {
	var r Result
	var all []time.Duration
	for _, s := range senders {
		r.Sent += s.sent
		r.Acked += s.acked
		all = append(all, s.latencies...)
	}
	if len(all) > 0 {
		slices.Sort(all)
		r.P50, r.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return r
}
