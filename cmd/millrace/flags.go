package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"millrace/stream"
)

const description = `Carries IoT telemetry from devices to screens and to SQL, and loses none of it.

Every flag has an environment variable, which its help names: --kafka-listen is MILLRACE_KAFKA_LISTEN. A flag
counts before the environment, the environment before the default.`

// cli is the command line: one field a command.
type cli struct {
	Up        upCommand        `cmd:"" help:"Run everything in one process: log, database, doors, sink, screens."`
	Ingest    ingestCommand    `cmd:"" help:"Run the front doors: MQTT and HTTP, appended to Kafka before they are acknowledged."`
	Bridge    bridgeCommand    `cmd:"" help:"Bring another MQTT broker's messages through the same gate."`
	Broadcast broadcastCommand `cmd:"" help:"Run the screens' side: WebSocket, SSE, latest values, dashboard, queries."`
	Sink      sinkCommand      `cmd:"" help:"Store the log in PostgreSQL or TimescaleDB, each value once."`
	Simulate  simulateCommand  `cmd:"" help:"Play a recording, or an invented fleet, as devices over MQTT."`
	Replay    replayCommand    `cmd:"" help:"Print what was said, from the past on, one reading a line."`
	Devices   devicesCommand   `cmd:"" help:"List devices, give them tokens, disable them."`
	Token     tokenCommand     `cmd:"" help:"Make a short-lived token for a screen."`
	Migrate   migrateCommand   `cmd:"" help:"Bring the database to this program's schema."`
	Verify    verifyCommand    `cmd:"" help:"Compare log and database; exit 1 if anything is missing."`
	Dead      deadCommand      `cmd:"" help:"List, show and send again what could not be accepted."`
	Status    statusCommand    `cmd:"" help:"Show what a running millrace does."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

// logFlags say what is logged, to standard error.
type logFlags struct {
	LogLevel  string `enum:",debug,info,warn,error" default:"" placeholder:"LEVEL" group:"Logs" help:"Least severe to log: debug, info, warn, error. Default: warn on the one screen of up and of commands, info for roles."`
	LogFormat string `enum:"text,json" default:"text" group:"Logs" help:"text or json."`
}

// roleFlags are common to all that keeps running.
type roleFlags struct {
	logFlags
	Check bool `help:"Validate the configuration and exit."`
}

// kafkaFlags say where the log is and how a missing topic is made.
type kafkaFlags struct {
	Kafka            []string `placeholder:"HOST:PORT,…" group:"Kafka" help:"Bootstrap servers of Kafka."`
	KafkaPrefix      string   `default:"millrace" group:"Kafka" help:"Prefix of the topics PREFIX.readings and PREFIX.dead."`
	KafkaPartitions  int      `default:"8" group:"Kafka" help:"Partitions of a topic made anew; an existing one keeps its own."`
	KafkaReplication int      `default:"0" group:"Kafka" help:"Copies of a topic made anew; 0 leaves it to the broker."`
}

// producerFlags say how the doors append.
type producerFlags struct {
	KafkaCompression string        `enum:"none,gzip,snappy,lz4,zstd" default:"none" group:"Kafka" help:"none, gzip, snappy, lz4 or zstd; kafkajs reads none and gzip only."`
	KafkaLinger      time.Duration `default:"5ms" group:"Kafka" help:"How long a batch waits for company: larger batches against later acknowledgements."`
}

func (f *producerFlags) config() stream.ProducerConfig {
	linger := f.KafkaLinger
	if linger == 0 {
		linger = -1 // the package's word for not waiting
	}
	return stream.ProducerConfig{Compression: stream.Compression(f.KafkaCompression), Linger: linger}
}

// postgresFlags say where the database is.
type postgresFlags struct {
	Postgres     string `placeholder:"URL" group:"PostgreSQL" help:"The database: postgres://user:password@host:port/name."`
	PostgresFile string `type:"existingfile" placeholder:"FILE" group:"PostgreSQL" help:"Read the database's URL from this file, so that it stands on no command line."`
}

// url of the database, "" if none was given.
func (f *postgresFlags) url() (string, error) {
	text, err := secret("--postgres-file", f.Postgres, f.PostgresFile)
	if err != nil || text == "" {
		return "", err
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" {
		return "", usage("--postgres: not a URL of the form postgres://user:password@host:port/name") // it may hold a password
	}
	return text, nil
}

// httpFlag is the one port for all that speaks HTTP.
type httpFlag struct {
	HTTP string `name:"http" placeholder:"HOST:PORT" default:"127.0.0.1:8080" group:"Listeners" help:"HTTP listener: ingest, live, queries, dashboard, metrics, on one port. Default: ${default}."`
}

// accessFlags say who may come in, and from where.
type accessFlags struct {
	Auth      string `enum:"none,devices" default:"none" group:"Access" help:"none: everybody on this machine. devices: tokens of 'millrace devices' at the doors and of 'millrace token' for screens."`
	AllowOpen bool   `group:"Access" help:"Listen beyond loopback although --auth is none: only where something else guards it."`
	TokenKey  string `placeholder:"FILE" group:"Access" help:"Key that signs screens' tokens, the same for all instances. Default: DATA/token.key."`
}

// checkAddress says whether a listener may be at addr: without authentication
// nobody beyond this machine gets in unless somebody said so.
func (f *accessFlags) checkAddress(flag, addr string) error {
	host, err := hostOf(flag, addr)
	if err != nil {
		return err
	}
	if f.Auth != "none" || f.AllowOpen || isLoopback(host) {
		return nil
	}
	return usage("%s: %s can be reached from other machines and nobody would have to log in: "+
		"use 127.0.0.1, or --auth devices, or --allow-open if something else guards it", flag, addr)
}

// hostOf is the host of a listener's address, whose port must be one.
func hostOf(flag, addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", usage("%s: %q is not host:port, as in 127.0.0.1:1883", flag, addr)
	}
	return host, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// dataFlag is where everything of a deployment on one machine lies.
type dataFlag struct {
	Data string `default:"./data" placeholder:"DIR" help:"Folder of the embedded log and database; commands beside a running 'millrace up' find it there. Default: ${default}."`
}

func (f *dataFlag) path(name string) string { return filepath.Join(f.Data, name) }

func (f *accessFlags) keyFile(data *dataFlag) string {
	if f.TokenKey != "" {
		return f.TokenKey
	}
	return data.path("token.key")
}

// need says that a flag is missing which this command cannot do without.
func need(flag, what string) error {
	return usage("%s is missing: %s (or %s in the environment)", flag, what, environmentOf(flag))
}

func environmentOf(flag string) string {
	return "MILLRACE_" + strings.ToUpper(strings.ReplaceAll(strings.TrimLeft(flag, "-"), "-", "_"))
}

// grace is how long one service may drain before the next is stopped, so that
// Ctrl-C ends the process within ten seconds.
const grace = 3 * time.Second

// topicBytes may stand in the name of a Kafka topic.
const topicBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

func (f *kafkaFlags) check() error {
	var wrong []error
	for _, address := range f.Kafka {
		if _, _, err := net.SplitHostPort(address); err != nil {
			wrong = append(wrong, usage("--kafka: %q is not host:port, as in kafka-1:9092", address))
		}
	}
	if f.KafkaPrefix == "" || len(f.KafkaPrefix) > 200 || strings.ContainsFunc(f.KafkaPrefix, func(r rune) bool { return !strings.ContainsRune(topicBytes, r) }) {
		wrong = append(wrong, usage("--kafka-prefix: %q: a topic's name has 1 to 200 of A-Za-z0-9 and . _ -", f.KafkaPrefix))
	}
	if f.KafkaPartitions < 1 || f.KafkaPartitions > 4096 {
		wrong = append(wrong, usage("--kafka-partitions: %d is not between 1 and 4096", f.KafkaPartitions))
	}
	return each(wrong...)
}

// each joins what several checks find, so that one run of --check names all.
func each(checks ...error) error {
	var found []error
	for _, err := range checks {
		if err != nil {
			found = append(found, err)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return failure{fmt.Errorf("%w", errors.Join(found...)), exitCode(found[0])}
}
