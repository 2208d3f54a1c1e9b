package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/schollz/progressbar/v3"

	"millrace/devices/simulator"
)

// simulateCommand plays a recording, or an invented fleet, as devices.
type simulateCommand struct {
	logFlags
	dataFlag
	MQTT         string            `name:"mqtt" placeholder:"URL" help:"Broker: mqtt://host:port or host:port. Default: the 'millrace up' of --data, else 127.0.0.1:1883."`
	User         string            `env:"MILLRACE_SIMULATE_USER" placeholder:"USER" help:"User name at the broker."`
	Password     string            `env:"MILLRACE_SIMULATE_PASSWORD" placeholder:"PASSWORD" help:"Password there."`
	PasswordFile string            `env:"MILLRACE_SIMULATE_PASSWORD_FILE" type:"existingfile" placeholder:"FILE" help:"Read the password from this file."`
	CSV          string            `name:"csv" placeholder:"FILE" group:"Recording" help:"Play this CSV file: its first line names the columns."`
	Device       string            `env:"MILLRACE_SIMULATE_DEVICE" placeholder:"COLUMN" group:"Recording" help:"The column that names the device."`
	Time         string            `env:"MILLRACE_SIMULATE_TIME" placeholder:"COLUMN" group:"Recording" help:"The column with the time."`
	TimeLayout   string            `placeholder:"LAYOUT" group:"Recording" help:"How times are written: rfc3339, unix, unix-ms, unix-us, unix-ns, or in Go's notation as 02/01/2006 15:04. Default: found by looking."`
	TimeZone     string            `default:"UTC" placeholder:"ZONE" group:"Recording" help:"Time zone of times that name none, as in Europe/Berlin. Default: ${default}."`
	Metrics      []string          `placeholder:"COLUMN,…" group:"Recording" help:"The columns to send; default: all others."`
	Rename       map[string]string `mapsep:"," placeholder:"COLUMN=METRIC" group:"Recording" help:"Send a column under another name, as in longitude=lon; may stand several times."`
	Speed        string            `env:"MILLRACE_SIMULATE_SPEED" default:"max" placeholder:"600|max" group:"Recording" help:"How many times as fast as it was recorded; max: as fast as the broker acknowledges. Default: ${default}."`
	Connections  int               `default:"0" placeholder:"N" help:"MQTT connections; a device stays on one. Default: 4 for a recording, 8 for a fleet."`
	Fleet        int               `default:"0" placeholder:"N" group:"Fleet" help:"Without --csv: run this many invented devices until Ctrl-C."`
	Interval     time.Duration     `default:"1s" group:"Fleet" help:"Between two readings of one device."`
	Name         string            `env:"MILLRACE_SIMULATE_NAME" placeholder:"NAME" group:"Fleet" help:"Begins the devices' names; two fleets on one broker need different ones."`
}

// Run plays.
func (c *simulateCommand) Run(ctx context.Context, t *terminal) error {
	broker, err := c.broker()
	if err != nil {
		return err
	}
	switch {
	case c.CSV != "" && c.Fleet > 0:
		return usage("--csv and --fleet: give one of them")
	case c.CSV != "":
		return c.play(ctx, t, broker)
	case c.Fleet > 0:
		return c.fleet(ctx, t, broker)
	}
	return usage("--csv FILE plays a recording, --fleet N an invented fleet: give one of them")
}

func (c *simulateCommand) broker() (simulator.Broker, error) {
	address := c.MQTT
	if address == "" {
		address = c.find().MQTT
	}
	if address == "" {
		address = "127.0.0.1:1883"
	}
	password, err := secret("--password-file", c.Password, c.PasswordFile)
	return simulator.Broker{URL: address, User: c.User, Password: password}, err
}

func (c *simulateCommand) play(ctx context.Context, t *terminal, broker simulator.Broker) error {
	for flag, value := range map[string]string{"--device": c.Device, "--time": c.Time} {
		if value == "" {
			return usage("%s is missing: name the column of %s", flag, c.CSV)
		}
	}
	speed, err := simulator.ParseSpeed(c.Speed)
	if err != nil {
		return usage("--speed: %v", err)
	}
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return usage("--time-zone: %v", err)
	}
	progress, finish := t.progress()
	report, err := simulator.Play(ctx, simulator.PlayConfig{
		Broker: broker, File: c.CSV, Device: c.Device, Time: c.Time, TimeLayout: c.TimeLayout, Zone: zone,
		Metrics: c.Metrics, Rename: c.Rename, Speed: speed, Connections: c.Connections,
		Log: t.logger(c.logFlags, slog.LevelWarn), Progress: progress,
	})
	finish()
	if report.Acknowledged > 0 || err == nil {
		t.printf("%s", report.String())
	}
	if rejected := report.RejectedRows(); err == nil && rejected > 0 {
		return fmt.Errorf("%d of %d rows of %s could not be played; the report says why", rejected, report.Rows, c.CSV)
	}
	return err
}

// progress is a bar on a terminal, and a line every ten seconds elsewhere.
func (t *terminal) progress() (show func(simulator.Progress), finish func()) {
	if !t.interactive() {
		told := time.Duration(0)
		return func(p simulator.Progress) {
			if p.Elapsed-told >= 10*time.Second {
				told = p.Elapsed
				t.tell("%3.0f %%  %d acknowledged, %.0f messages/s", p.Fraction*100, p.Acknowledged, p.Rate())
			}
		}, func() {}
	}
	bar := progressbar.NewOptions(1000, progressbar.OptionSetWriter(t.err), progressbar.OptionSetWidth(30),
		progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish())
	return func(p simulator.Progress) {
		bar.Describe(fmt.Sprintf("%d acknowledged, %.0f/s%s", p.Acknowledged, p.Rate(), left(p)))
		_ = bar.Set(int(p.Fraction * 1000))
	}, func() { _ = bar.Finish() }
}

// left is about how long the rest takes, once that can be told.
func left(p simulator.Progress) string {
	if p.Fraction < 0.001 || p.Fraction >= 1 {
		return ""
	}
	rest := time.Duration(float64(p.Elapsed) * (1 - p.Fraction) / p.Fraction)
	return fmt.Sprintf(", %v left", rest.Round(time.Second))
}

func (c *simulateCommand) fleet(ctx context.Context, t *terminal, broker simulator.Broker) error {
	broker.Patience = math.MaxInt64 // a broker that never was there is told at once, one that is lost is waited for
	fleet, err := simulator.NewFleet(simulator.FleetConfig{
		Broker: broker, Devices: c.Fleet, Interval: c.Interval, Connections: c.Connections, Name: c.Name,
		Seed: uint64(time.Now().UnixNano()), Log: t.logger(c.logFlags, slog.LevelWarn),
	})
	if err != nil {
		return err
	}
	t.tell("millrace: %d devices drive until Ctrl-C", c.Fleet)
	err = fleet.Run(ctx)
	counts := fleet.Counts()
	if counts.Acknowledged == 0 && err != nil {
		return err
	}
	t.printf("published      %d\nacknowledged   %d\n", counts.Published, counts.Acknowledged)
	return err
}
