package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"millrace/broadcaster"
	"millrace/broadcaster/ws"
	"millrace/dashboard"
	"millrace/devices"
	"millrace/ingest"
	"millrace/ingest/mqttd"
	"millrace/internal/run"
	"millrace/storage"
	"millrace/stream"
	"millrace/telemetry"
)

// doorFlags are what the role ingest is told.
type doorFlags struct {
	producerFlags
	accessFlags
	MQTT  string   `name:"mqtt" placeholder:"HOST:PORT" default:"127.0.0.1:1883" group:"Listeners" help:"MQTT listener. Default: ${default}."`
	Topic []string `placeholder:"PATTERN" group:"Listeners" help:"Further MQTT topics that carry telemetry, as in plant/{device}/state or meters/+/{device}/{metric}."`
}

func (f *doorFlags) check() error {
	_, err := f.patterns()
	var linger error
	if f.KafkaLinger < 0 || f.KafkaLinger > time.Second {
		linger = usage("--kafka-linger: %v is not between 0s and 1s", f.KafkaLinger)
	}
	return each(f.checkAddress("--mqtt", f.MQTT), err, linger)
}

func (f *doorFlags) patterns() (*ingest.Patterns, error) {
	patterns, err := ingest.ParsePatterns(append(ingest.DefaultPatterns(), f.Topic...))
	if err != nil {
		return nil, usage("--topic: %v", err)
	}
	return patterns, nil
}

// ingest adds the role ingest: MQTT and HTTP doors in front of the log.
func (h *house) ingest(f doorFlags) error {
	auth, err := h.authenticator(f.accessFlags)
	if err != nil {
		return err
	}
	gate, err := h.gate(f.producerFlags)
	if err != nil {
		return err
	}
	patterns, err := f.patterns()
	if err != nil {
		return err
	}
	mqtt, err := mqttd.Listen(mqttd.Config{
		Addr: f.MQTT, Gate: gate, Auth: auth, Patterns: patterns, Log: h.log, Events: h.metrics.MQTT(),
	})
	if err != nil {
		return err
	}
	if registry, ok := auth.(*devices.Registry); ok {
		h.floor(registry.Watch(mqtt.Disconnect))
	}
	h.add(rankDoor, "mqtt", mqtt)
	h.board.connections = mqtt.Connections
	door := ingest.NewHandler(ingest.HTTPConfig{Gate: gate, Auth: auth, Log: h.log, Events: h.metrics.HTTP()})
	h.web.door("POST /v1/telemetry", "take in readings of many devices", door)
	h.web.door("POST /v1/devices/{device}/telemetry", "take in readings of one device", door)
	return nil
}

// gate is the one gate of the process, in front of a producer of its own.
func (h *house) gate(f producerFlags) (*ingest.Gate, error) {
	producer, err := stream.NewProducer(h.kafka, f.config())
	if err != nil {
		return nil, err
	}
	h.add(rankLog, "producer", run.Func(func(ctx context.Context) error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		return producer.Close(drain)
	}))
	h.metrics.Buffered(producer.Buffered)
	var appender ingest.Appender = producer
	if h.database != nil {
		presence := devices.NewPresence(storage.NewDevices(h.database), devices.PresenceConfig{Log: h.log})
		h.add(rankKeeper, "presence", presence)
		appender = heard{producer, presence}
	}
	return ingest.NewGate(ingest.Config{Appender: appender, Log: h.log, Events: h.metrics.Gate()}), nil
}

// heard is an appender that notes which devices speak.
type heard struct {
	ingest.Appender
	presence *devices.Presence
}

func (a heard) Append(ctx context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	a.note(&e)
	a.Appender.Append(ctx, e, done)
}

func (a heard) TryAppend(ctx context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	a.note(&e)
	a.Appender.TryAppend(ctx, e, done)
}

func (a heard) note(e *telemetry.Entry) {
	if e.Dead == nil {
		a.presence.Heard(e.Device, e.Received)
	}
}

// authenticator says who devices are: everybody, or the registry in the database.
func (h *house) authenticator(f accessFlags) (ingest.Authenticator, error) {
	if f.Auth == "none" {
		return devices.Open{}, nil
	}
	if h.database == nil {
		return nil, noRegistry()
	}
	registry := devices.NewRegistry(storage.NewDevices(h.database), devices.RegistryConfig{Log: h.log, Events: h.metrics.Devices()})
	h.add(rankKeeper, "devices", registry)
	return registry, nil
}

func noRegistry() error {
	return need("--postgres", "--auth devices keeps the devices in the database")
}

// guard lets only those read who have a token, where somebody asks for one.
func (h *house) guard(f accessFlags, data dataFlag) error {
	if f.Auth == "none" {
		h.web.local = !f.AllowOpen
		return nil
	}
	if f.TokenKey == "" {
		if err := os.MkdirAll(data.Data, 0o711); err != nil {
			return fmt.Errorf("--data: cannot make the folder: %w", err)
		}
	}
	key, err := devices.LoadTokenKey(f.keyFile(&data))
	if err != nil {
		return fmt.Errorf("--token-key: %w", err)
	}
	h.web.screens = readers(key)
	return nil
}

// broadcast adds the role broadcast: the hub and what stands in front of it.
func (h *house) broadcast(ctx context.Context, limits broadcaster.Limits) error {
	limits.CatchUps = pastReaders
	config := broadcaster.Config{Log: h.kafka.Readings(), Limits: limits, Logger: h.log, Events: h.metrics.Hub()}
	if h.database != nil {
		reads, err := h.openReads(ctx)
		if err != nil {
			return err
		}
		config.History = storage.NewHistory(reads)
		h.queries(reads)
	}
	hub, err := broadcaster.NewHub(config)
	if err != nil {
		return err
	}
	h.add(rankScreen, "hub", hub)
	h.board.devices = hub.Devices
	h.health.Check("hub", func(context.Context) error {
		select {
		case <-hub.Ready():
			return nil
		default:
			return fmt.Errorf("reading the log up to its end")
		}
	})
	screens := broadcaster.NewHandler(hub, broadcaster.HandlerConfig{Logger: h.log})
	h.web.screen("GET /v1/stream", "live, past, or past-then-live, as server-sent events", screens)
	h.web.screen("GET /v1/latest", "the newest values of each device", screens)
	h.web.screen("GET /v1/top", "the devices with the most of a metric", screens)
	h.web.screen("GET /v1/ws", "the same as /v1/stream, as WebSocket", ws.NewHandler(hub, ws.Config{Logger: h.log}))
	h.web.page("the dashboard", dashboard.Handler())
	return nil
}

// sinkFlags are what the role sink is told.
type sinkFlags struct {
	SinkBatch int    `default:"50000" group:"Sink" help:"About how many values one transaction takes."`
	SinkPath  string `enum:"auto,copy,unnest" default:"auto" group:"Sink" help:"How rows travel: copy, or unnest where COPY does not work."`
}

// sinkGroup is the consumer group of the sinks; that of the dead letters adds .dead.
func sinkGroup(prefix string) string { return prefix + ".sink" }

// queries adds the query API.
func (h *house) queries(reads *storage.DB) {
	queries := storage.NewHandler(reads, storage.QueryConfig{Concurrent: queryReaders, Log: h.log})
	h.web.screen("GET /v1/readings", "readings of the past", queries)
	h.web.screen("GET /v1/series", "a metric by minute, hour or day", queries)
	h.web.screen("GET /v1/devices", "devices, and when each was heard of", queries)
}

func (f *sinkFlags) check() error {
	if f.SinkBatch < 1 || f.SinkBatch > 1_000_000 {
		return usage("--sink-batch: %d is not between 1 and 1000000", f.SinkBatch)
	}
	return nil
}

// sink adds the role sink: the log into the database.
func (h *house) sink(f sinkFlags) error {
	sink, err := storage.NewSink(h.database, storage.SinkConfig{
		Prefix: h.prefix, BatchRows: f.SinkBatch, Path: storage.Path(f.SinkPath), Log: h.log, Events: h.metrics.Storage(),
	})
	if err != nil {
		return err
	}
	group := sinkGroup(h.prefix)
	h.add(rankSink, "sink", stream.NewConsumer(h.kafka.Readings(), group, sink.Readings(), stream.ConsumerConfig{}))
	h.add(rankSink, "sink of dead letters", stream.NewConsumer(h.kafka.Dead(), group+".dead", sink.Dead(), stream.ConsumerConfig{}))
	h.add(rankKeeper, "rollups", storage.NewRollups(h.database, storage.RollupsConfig{Log: h.log, Events: h.metrics.Storage()}))
	return nil
}
