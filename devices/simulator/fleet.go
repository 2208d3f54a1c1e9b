package simulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"millrace/telemetry"
)

// FleetConfig configures a [Fleet].
type FleetConfig struct {
	Broker  Broker
	Devices int // how many; at least 1. One of ten is a weather station, the others are trucks
	// Interval is the time between two readings of one device; 0: a second.
	Interval time.Duration
	// Connections the devices share; 0: eight, or fewer if there are fewer
	// devices. As many as Devices gives each its own, with the device's name as
	// the client id.
	Connections int
	// Login, if set, is each device's user and password, for a broker that asks
	// devices who they are. It needs a connection for each device.
	Login func(device string) (user, password string)
	// Name begins the names of devices and client ids: NAME-truck-1; "": no
	// beginning. Two fleets on one broker need different ones.
	Name   string
	Seed   uint64 // the same seed is the same fleet
	Log    *slog.Logger
	Events Events
}

// Counts is how a fleet is doing. Published less Acknowledged is under way.
type Counts struct {
	Published, Acknowledged, Skipped int64
}

// Fleet is invented devices that publish to telemetry/{device}, QoS 1. What they
// say goes on from reading to reading: trucks drive with the speed they tell,
// burn fuel, stop, unload; no device uses a time twice.
type Fleet struct {
	config  FleetConfig
	devices []*simulated
	links   []*link

	published, acknowledged, skipped atomic.Int64
}

// model is what a simulated device is inside.
type model interface {
	step(seconds float64)
	read(to []telemetry.Metric) []telemetry.Metric
}

type simulated struct {
	topic   string
	model   model
	reading telemetry.Reading
}

// NewFleet makes the fleet. It does not connect yet: that is Run's.
func NewFleet(config FleetConfig) (*Fleet, error) {
	address, err := config.Broker.address()
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	if err := config.complete(); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	f := &Fleet{config: config}
	net := cities()
	for i := range config.Devices {
		f.devices = append(f.devices, newSimulated(&config, i, net))
	}
	base := linkConfig{
		address: address, user: config.Broker.User, password: config.Broker.Password,
		patience: config.Broker.Patience, log: config.Log, events: config.Events,
	}
	base.events.Acknowledged = func(n int) {
		f.acknowledged.Add(int64(n))
		if config.Events.Acknowledged != nil {
			config.Events.Acknowledged(n)
		}
	}
	for i := range config.Connections {
		own := base
		own.client = fmt.Sprintf("%sfleet-%d", config.Name, i+1)
		if config.Connections == config.Devices {
			own.client = f.devices[i].reading.Device
		}
		if config.Login != nil {
			own.user, own.password = config.Login(own.client)
		}
		f.links = append(f.links, newLink(own, window))
	}
	return f, nil
}

// complete fills in defaults and says what is wrong.
func (c *FleetConfig) complete() error {
	if c.Devices < 1 || c.Devices > 1_000_000 {
		return fmt.Errorf("a fleet of %d devices: have 1 to 1,000,000", c.Devices)
	}
	if c.Interval <= 0 {
		c.Interval = time.Second
	}
	if c.Connections <= 0 {
		c.Connections = 8
		if c.Login != nil {
			c.Connections = c.Devices
		}
	}
	c.Connections = min(c.Connections, c.Devices)
	if c.Login != nil && c.Connections != c.Devices {
		return errors.New("devices with a login of their own need a connection each: set connections to the number of devices")
	}
	if c.Broker.Patience == 0 {
		c.Broker.Patience = -1
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Name != "" {
		c.Name += "-"
		if err := telemetry.CheckDevice(c.Name); err != nil {
			return err
		}
	}
	return nil
}

func newSimulated(config *FleetConfig, i int, net []city) *simulated {
	random := rand.New(rand.NewPCG(config.Seed, uint64(i)))
	d := &simulated{}
	if i%10 == 9 {
		d.model = newStation(random, net)
		d.reading.Device = fmt.Sprintf("%sstation-%d", config.Name, i/10+1)
	} else {
		d.model = newTruck(random, net)
		d.reading.Device = fmt.Sprintf("%struck-%d", config.Name, i-i/10+1)
	}
	d.topic = "telemetry/" + d.reading.Device
	return d
}

// next is the device's message at now, or one microsecond behind its last one.
func (d *simulated) next(now time.Time) message {
	r := &d.reading
	now = now.UTC().Truncate(time.Microsecond)
	if !r.Time.IsZero() {
		now = latest(now, r.Time.Add(time.Microsecond))
		d.model.step(now.Sub(r.Time).Seconds())
	}
	r.Time = now
	r.Metrics = d.model.read(r.Metrics[:0])
	return message{topic: d.topic, payload: r.AppendJSON(nil)}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Counts answers how the fleet is doing. Safe for concurrent use.
func (f *Fleet) Counts() Counts {
	return Counts{f.published.Load(), f.acknowledged.Load(), f.skipped.Load()}
}

// Run publishes until ctx is cancelled, waits up to five seconds for the
// acknowledgements of what is under way, and returns nil. With the default
// patience it never gives up on the broker, however long that is away. A fleet
// runs once.
func (f *Fleet) Run(ctx context.Context) error {
	life, end := context.WithCancel(ctx)
	defer end()
	failed := make(chan error, len(f.links))
	var running sync.WaitGroup
	for _, l := range f.links {
		running.Go(func() {
			err := l.run(life)
			if err != nil && !errors.Is(err, errUndelivered) {
				failed <- err
				end() // one fails, all stop
			}
		})
	}
	f.tick(life)
	for _, l := range f.links {
		close(l.in)
	}
	running.Wait()
	select {
	case err := <-failed:
		return fmt.Errorf("simulator: fleet: %w", err)
	default:
		return nil
	}
}

// tick lets each device speak once an interval, spread evenly over it.
func (f *Fleet) tick(ctx context.Context) {
	n := int64(len(f.devices))
	began := time.Now()
	for k := int64(0); ; {
		// A sleep overshoots: whoever is due by now speaks now.
		due := int64(float64(time.Since(began)) / float64(f.config.Interval) * float64(n))
		if due-k > 2*n { // the machine slept: nobody catches up on that
			k = due - n
		}
		now := time.Now()
		for ; k <= due; k++ {
			i := k % n
			f.offer(f.links[i%int64(len(f.links))], f.devices[i], now)
		}
		next := time.Duration(float64(k) / float64(n) * float64(f.config.Interval))
		if !pause(ctx, max(time.Until(began.Add(next)), time.Millisecond)) {
			return
		}
	}
}

// offer gives the device's next message to its link. A link that is behind by
// its whole room takes none: then the device says nothing this time.
func (f *Fleet) offer(l *link, d *simulated, now time.Time) {
	if len(l.in) == cap(l.in) {
		f.skipped.Add(1)
		if f.config.Events.Skipped != nil {
			f.config.Events.Skipped(1)
		}
		return
	}
	l.in <- d.next(now) // has room: tick is the only sender
	f.published.Add(1)
}
