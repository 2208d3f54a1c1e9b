package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/devices/simulator"
	"millrace/internal/run"
	"millrace/storage"
	postgres "millrace/storage/embedded"
	kafka "millrace/stream/embedded"
)

// upCommand runs every role in one process, with a log and a database of its
// own where none are given.
type upCommand struct {
	roleFlags
	dataFlag
	doorFlags
	httpFlag
	kafkaFlags
	postgresFlags
	sinkFlags
	KafkaListen    string `placeholder:"HOST:PORT" default:"127.0.0.1:9092" group:"Embedded" help:"Listener of the embedded log, used without --kafka. Default: ${default}."`
	KafkaRetain    int64  `default:"1024" group:"Embedded" help:"The embedded log keeps this much, in MiB; beyond, it drops the oldest that are stored."`
	KafkaSync      bool   `default:"true" negatable:"" group:"Embedded" help:"The embedded log writes to the disk itself before it acknowledges."`
	PostgresListen string `placeholder:"HOST:PORT" default:"127.0.0.1:5433" group:"Embedded" help:"Listener of the embedded PostgreSQL, used without --postgres. Default: ${default}."`
	PostgresUser   string `placeholder:"USER" group:"Embedded" help:"Under root: who runs PostgreSQL. Default: postgres, millrace or nobody, the first there is."`
	Fleet          int    `default:"0" placeholder:"N" group:"Fleet" help:"Run this many invented devices."`
}

// Run runs everything until Ctrl-C.
func (c *upCommand) Run(ctx context.Context, t *terminal) error {
	if err := c.check(); err != nil || c.Check {
		return checked(t, err)
	}
	release, err := c.lock()
	if err != nil {
		return err
	}
	defer release()
	h := newHouse(t.logger(c.logFlags, slog.LevelWarn), "up", "ingest", "broadcast", "sink")
	defer h.close()
	began := time.Now()
	found, err := c.start(ctx, t, h)
	if ctx.Err() != nil {
		t.tell("millrace: stopped before it was up")
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.leave(found); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.welcome(t, found, time.Since(began))
	if c.Fleet > 0 {
		if err := c.addFleet(h); err != nil {
			return err
		}
	}
	if err := h.run(ctx); err != nil {
		return err
	}
	t.tell("millrace: stopped; what was acknowledged is kept in %s", c.Data)
	return nil
}

func (c *upCommand) check() error {
	_, err := c.postgresFlags.url()
	checks := []error{
		err, c.doorFlags.check(), c.kafkaFlags.check(), c.checkAddress("--http", c.HTTP),
		loopbackOnly("--kafka-listen", c.KafkaListen), loopbackOnly("--postgres-listen", c.PostgresListen),
		c.sinkFlags.check(), c.different(),
	}
	if c.Fleet < 0 || c.Fleet > 100_000 {
		checks = append(checks, usage("--fleet: %d is not between 0 and 100000", c.Fleet))
	}
	if c.Fleet > 0 && c.Auth != "none" {
		checks = append(checks, usage("--fleet: invented devices have no tokens; leave out --auth %s, or see 'millrace simulate --help'", c.Auth))
	}
	if c.KafkaRetain < 64 {
		checks = append(checks, usage("--kafka-retain: %d MiB is less than 64", c.KafkaRetain))
	}
	return each(checks...)
}

// different says whether two listeners want one address.
func (c *upCommand) different() error {
	taken := map[string]string{}
	for _, l := range [][2]string{{"--mqtt", c.MQTT}, {"--http", c.HTTP}, {"--kafka-listen", c.KafkaListen}, {"--postgres-listen", c.PostgresListen}} {
		flag, addr := l[0], l[1]
		if other, ok := taken[addr]; ok && !strings.HasSuffix(addr, ":0") {
			return usage("%s: %s is %s's already: give each its own port", flag, addr, other)
		}
		taken[addr] = flag
	}
	return nil
}

func loopbackOnly(flag, addr string) error {
	host, err := hostOf(flag, addr)
	if err != nil {
		return err
	}
	if !isLoopback(host) {
		return usage("%s: the embedded servers are for this machine only; use 127.0.0.1", flag)
	}
	return nil
}

// start opens everything, floors first. Ports are tried before the long work,
// so that a taken one is known at once.
func (c *upCommand) start(ctx context.Context, t *terminal, h *house) (beside, error) {
	if err := c.ports(); err != nil {
		return beside{}, err
	}
	if err := h.web.listen(c.HTTP); err != nil {
		return beside{}, err
	}
	url, err := c.floors(ctx, t, h)
	if err != nil {
		return beside{}, err
	}
	if err := c.rooms(ctx, t, h, url); err != nil {
		return beside{}, err
	}
	h.add(rankWeb, "http", h.web)
	h.add(rankKeeper, "memory", run.Func(tidy))
	return beside{os.Getpid(), h.web.listener.Addr().String(), c.MQTT, strings.Join(c.Kafka, ","), url}, nil
}

func (c *upCommand) ports() error {
	wanted := map[string]string{"--mqtt": c.MQTT}
	if len(c.Kafka) == 0 {
		wanted["--kafka-listen"] = c.KafkaListen
	}
	if c.Postgres == "" && c.PostgresFile == "" {
		wanted["--postgres-listen"] = c.PostgresListen
	}
	for _, flag := range []string{"--mqtt", "--kafka-listen", "--postgres-listen"} {
		addr, ok := wanted[flag]
		if !ok || flag == "--postgres-listen" {
			continue // a server of ours that a kill left behind may still be there: the package knows
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return portError(flag, addr, err)
		}
		_ = l.Close()
	}
	return nil
}

// floors starts the embedded servers that are wanted, both at once, and
// answers the database's URL.
func (c *upCommand) floors(ctx context.Context, t *terminal, h *house) (string, error) {
	url, err := c.postgresFlags.url()
	if err != nil {
		return "", err
	}
	both, ctx := errgroup.WithContext(ctx)
	var log *kafka.Broker
	var database *postgres.Server
	progress := t.steps("")
	if len(c.Kafka) == 0 {
		both.Go(func() (err error) {
			log, err = kafka.Start(ctx, kafka.Config{
				Addr: c.KafkaListen, Dir: c.path("kafka"), NoSync: !c.KafkaSync, RetentionBytes: c.KafkaRetain << 20,
				Readers: c.readers(), Log: h.log, Events: h.logEvents(),
			})
			return err
		})
	}
	if url == "" {
		both.Go(func() (err error) {
			database, err = postgres.Start(ctx, postgres.Config{
				Listen: c.PostgresListen, Dir: c.path("postgres"), User: c.PostgresUser,
				Log: h.log, Progress: progress, Events: h.metrics.EmbeddedPostgres(),
			})
			return err
		})
	}
	err = both.Wait()
	if database != nil {
		h.floor(func() { _ = database.Close() })
		h.add(rankFloor, "postgres", database)
		url = database.URL()
	}
	if log != nil {
		h.floor(log.Close)
		h.add(rankFloor, "kafka", log)
		c.Kafka = []string{log.Addr()}
	}
	return url, err
}

// rooms adds the roles.
func (c *upCommand) rooms(ctx context.Context, t *terminal, h *house, url string) error {
	if err := h.openLog(ctx, c.kafkaFlags); err != nil {
		return err
	}
	if err := h.openDatabase(ctx, url); err != nil {
		return err
	}
	if err := storage.Migrate(ctx, h.database, storage.MigrateOptions{}, t.steps("migrating: ")); err != nil {
		return err
	}
	return errors.Join(h.guard(c.accessFlags, c.dataFlag), h.ingest(c.doorFlags), h.broadcast(ctx, smallHub()), h.sink(c.sinkFlags))
}

// logEvents are metrics, and a check: a log that refuses appends is not ready.
func (h *house) logEvents() kafka.Events {
	events := h.metrics.EmbeddedLog()
	count := events.Refused
	var refusing atomic.Value
	refusing.Store("")
	events.Refused = func(why string) {
		count(why)
		refusing.Store(why)
	}
	h.health.Check("embedded log", func(context.Context) error {
		if why := refusing.Load().(string); why != "" {
			return errors.New(why)
		}
		return nil
	})
	return events
}

// readers are the sink's groups: what they have not stored stays in the log.
func (c *upCommand) readers() []kafka.Reader {
	return []kafka.Reader{
		{Topic: c.KafkaPrefix + ".readings", Group: sinkGroup(c.KafkaPrefix)},
		{Topic: c.KafkaPrefix + ".dead", Group: sinkGroup(c.KafkaPrefix) + ".dead"},
	}
}

func (c *upCommand) addFleet(h *house) error {
	fleet, err := simulator.NewFleet(simulator.FleetConfig{
		Broker: simulator.Broker{URL: c.MQTT, Patience: -1}, Devices: c.Fleet, Log: h.log,
		Seed: uint64(time.Now().UnixNano()),
	})
	if err != nil {
		return err
	}
	h.add(rankFleet, "fleet", fleet)
	return nil
}

// welcome is the one screen of text: what listens where, what to try next.
func (c *upCommand) welcome(t *terminal, b beside, took time.Duration) {
	fleet := "no fleet (--fleet 100 invents one)"
	if c.Fleet > 0 {
		fleet = fmt.Sprintf("%d invented devices are driving", c.Fleet)
	}
	t.printf(`
Millrace %s is up after %s: %s.

  dashboard   http://%s/
  MQTT        %s
  HTTP        http://%s/v1
  Kafka       %s   topics %s.readings, %s.dead
  PostgreSQL  %s
  data        %s

Try, in another terminal:

%s
Ctrl-C drains and ends; the next start goes on from here.
`, version, took.Round(10*time.Millisecond), fleet, b.HTTP, c.MQTT, b.HTTP,
		b.Kafka, c.KafkaPrefix, c.KafkaPrefix, b.Postgres, c.Data, c.tries(b))
}

// tries are commands to type, each on a line of its own.
func (c *upCommand) tries(b beside) string {
	host, port, _ := net.SplitHostPort(c.MQTT)
	login, bearer := "", ""
	var lines []string
	if c.Auth != "none" {
		lines = append(lines,
			fmt.Sprintf("DEVICE=$(%s devices add my-truck%s)", os.Args[0], c.dataArgument()),
			fmt.Sprintf("SCREEN=$(%s token%s)", os.Args[0], c.dataArgument()))
		login, bearer = " -u my-truck -P $DEVICE", ` -H "Authorization: Bearer $SCREEN"`
	}
	lines = append(lines,
		fmt.Sprintf(`mosquitto_pub -h %s -p %s%s -q 1 -t telemetry/my-truck -m '{"speed":61.2,"lat":52.1,"lon":4.3}'`, host, port, login),
		fmt.Sprintf(`curl -N%s 'http://%s/v1/stream?device=my-truck&snapshot=true'`, bearer, b.HTTP),
		fmt.Sprintf(`psql '%s' -c "select * from telemetry where device = 'my-truck'"`, b.Postgres),
		fmt.Sprintf("%s verify%s", os.Args[0], c.dataArgument()))
	return "  " + strings.Join(lines, "\n  ") + "\n"
}

func (c *upCommand) dataArgument() string {
	if c.Data == "./data" {
		return ""
	}
	return " --data " + c.Data
}
