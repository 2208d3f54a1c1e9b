package main

import (
	"context"
	"errors"
	"log/slog"

	"millrace/bridge"
	"millrace/broadcaster"
	"millrace/ingest"
)

// checked ends a command whose configuration was validated.
func checked(t *terminal, err error) error {
	if err == nil {
		t.printf("The configuration is good.\n")
	}
	return err
}

// serve opens the HTTP listener and runs the house.
func (h *house) serve(ctx context.Context, t *terminal, addr string) error {
	if err := h.web.listen(addr); err != nil {
		return err
	}
	h.add(rankWeb, "http", h.web)
	t.tell("millrace: serving %v; HTTP at %s", h.board.roles, h.web.listener.Addr())
	return h.run(ctx)
}

// floorFlags are what each role needs below it.
type floorFlags struct {
	kafkaFlags
	postgresFlags
}

func (f *floorFlags) check() error {
	_, err := f.url()
	missing := error(nil)
	if len(f.Kafka) == 0 {
		missing = need("--kafka", "name Kafka's bootstrap servers")
	}
	return each(missing, err, f.kafkaFlags.check())
}

// open connects to Kafka, and to the database if one is named.
func (f *floorFlags) open(ctx context.Context, h *house) error {
	if err := h.openLog(ctx, f.kafkaFlags); err != nil {
		return err
	}
	url, err := f.url()
	if err != nil || url == "" {
		return err
	}
	if err := h.openDatabase(ctx, url); err != nil {
		return err
	}
	return migrated(h.database)
}

// ingestCommand is the role ingest as a process.
type ingestCommand struct {
	roleFlags
	dataFlag
	doorFlags
	httpFlag
	floorFlags
}

// Run serves the doors until it is told to stop.
func (c *ingestCommand) Run(ctx context.Context, t *terminal) error {
	missing := error(nil)
	if c.Auth != "none" && c.Postgres == "" && c.PostgresFile == "" {
		missing = noRegistry()
	}
	err := each(c.doorFlags.check(), c.checkAddress("--http", c.HTTP), c.floorFlags.check(), missing)
	if err != nil || c.Check {
		return checked(t, err)
	}
	h := newHouse(t.logger(c.logFlags, slog.LevelInfo), "ingest")
	defer h.close()
	if err := errors.Join(c.open(ctx, h), h.guard(c.accessFlags, c.dataFlag)); err != nil {
		return err
	}
	if err := h.ingest(c.doorFlags); err != nil {
		return err
	}
	return h.serve(ctx, t, c.HTTP)
}

// broadcastCommand is the role broadcast as a process.
type broadcastCommand struct {
	roleFlags
	dataFlag
	accessFlags
	httpFlag
	floorFlags
}

// Run serves the screens until it is told to stop.
func (c *broadcastCommand) Run(ctx context.Context, t *terminal) error {
	err := each(c.checkAddress("--http", c.HTTP), c.floorFlags.check())
	if err != nil || c.Check {
		return checked(t, err)
	}
	h := newHouse(t.logger(c.logFlags, slog.LevelInfo), "broadcast")
	defer h.close()
	if err := errors.Join(c.open(ctx, h), h.guard(c.accessFlags, c.dataFlag)); err != nil {
		return err
	}
	if err := h.broadcast(ctx, broadcaster.Limits{}); err != nil {
		return err
	}
	return h.serve(ctx, t, c.HTTP)
}

// sinkCommand is the role sink as a process.
type sinkCommand struct {
	roleFlags
	accessFlags
	dataFlag
	sinkFlags
	httpFlag
	floorFlags
}

// Run stores until it is told to stop.
func (c *sinkCommand) Run(ctx context.Context, t *terminal) error {
	missing := error(nil)
	if c.Postgres == "" && c.PostgresFile == "" {
		missing = need("--postgres", "name the database")
	}
	err := each(c.checkAddress("--http", c.HTTP), c.sinkFlags.check(), c.floorFlags.check(), missing)
	if err != nil || c.Check {
		return checked(t, err)
	}
	h := newHouse(t.logger(c.logFlags, slog.LevelInfo), "sink")
	defer h.close()
	if err := errors.Join(c.open(ctx, h), h.guard(c.accessFlags, c.dataFlag)); err != nil {
		return err
	}
	if err := h.sink(c.sinkFlags); err != nil {
		return err
	}
	return h.serve(ctx, t, c.HTTP)
}

// bridgeCommand is the role bridge as a process.
type bridgeCommand struct {
	roleFlags
	accessFlags
	dataFlag
	producerFlags
	httpFlag
	floorFlags
	From         string   `env:"MILLRACE_BRIDGE_FROM" required:"" placeholder:"URL" group:"Bridge" help:"The other broker: mqtt://host:port, mqtts://, ws:// or wss://."`
	Topic        []string `env:"MILLRACE_BRIDGE_TOPIC" required:"" placeholder:"FILTER" group:"Bridge" help:"MQTT topic filter to subscribe to, as in sensors/+/data; may stand several times."`
	DeviceFrom   []string `env:"MILLRACE_BRIDGE_DEVICE_FROM" placeholder:"PATTERN" group:"Bridge" help:"Where the topic names the device, as in sensors/{device}/data; default: millrace's own patterns."`
	QoS          byte     `env:"MILLRACE_BRIDGE_QOS" name:"qos" default:"1" group:"Bridge" help:"QoS of the subscription: 0, 1 or 2."`
	ClientID     string   `env:"MILLRACE_BRIDGE_CLIENT_ID" name:"client-id" placeholder:"ID" group:"Bridge" help:"Client id at the other broker; the same after a restart. Default: made of --from and --topic."`
	User         string   `env:"MILLRACE_BRIDGE_USER" group:"Bridge" placeholder:"USER" help:"User name at the other broker."`
	Password     string   `env:"MILLRACE_BRIDGE_PASSWORD" group:"Bridge" placeholder:"PASSWORD" help:"Password there."`
	PasswordFile string   `env:"MILLRACE_BRIDGE_PASSWORD_FILE" group:"Bridge" type:"existingfile" placeholder:"FILE" help:"Read the password from this file."`
}

// Run brings messages over until it is told to stop.
func (c *bridgeCommand) Run(ctx context.Context, t *terminal) error {
	config, err := c.config()
	err = each(err, c.checkAddress("--http", c.HTTP), c.floorFlags.check())
	if err != nil || c.Check {
		return checked(t, err)
	}
	h := newHouse(t.logger(c.logFlags, slog.LevelInfo), "bridge")
	defer h.close()
	if err := errors.Join(c.open(ctx, h), h.guard(c.accessFlags, c.dataFlag)); err != nil {
		return err
	}
	gate, err := h.gate(c.producerFlags)
	if err != nil {
		return err
	}
	config.Gate, config.Log, config.Events = gate, h.log, h.metrics.Bridge()
	b, err := bridge.New(config)
	if err != nil {
		return err
	}
	h.add(rankDoor, "bridge", b)
	return h.serve(ctx, t, c.HTTP)
}

// config is validated by making a bridge of it that never runs.
func (c *bridgeCommand) config() (bridge.Config, error) {
	password, err := secret("--password-file", c.Password, c.PasswordFile)
	config := bridge.Config{
		From: c.From, Topics: c.Topic, DeviceFrom: c.DeviceFrom, QoS: c.QoS, ClientID: c.ClientID,
		User: c.User, Password: password, Gate: ingest.NewGate(ingest.Config{}),
	}
	if err == nil {
		_, err = bridge.New(config)
	}
	if err != nil {
		return config, failure{err, 2}
	}
	return config, nil
}
