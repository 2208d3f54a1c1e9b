package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"millrace/internal/obs"
	"millrace/internal/run"
	"millrace/storage"
	"millrace/stream"
)

// rank is where a service stands on the way of a reading. Services are stopped
// in this order: close the doors, let the log drain, commit, close the floor.
type rank int

const (
	rankFleet  rank = iota // devices of our own
	rankDoor               // MQTT, bridge
	rankScreen             // the hub says goodbye to its clients
	rankWeb                // HTTP: answers what is under way
	rankLog                // the producer drains
	rankSink               // consumers commit
	rankKeeper             // registries, rollups: what others ask
	rankFloor              // the embedded log and database
)

// house is what runs in one process. Each role adds its rooms; the house knows
// how they start and stop, and what /readyz and /v1/status say.
type house struct {
	log     *slog.Logger
	metrics *obs.Metrics
	health  *obs.Health
	web     *web
	board   board

	kafka    *stream.Log
	prefix   string // of its topics
	database *storage.DB
	url      string // of the database

	services []ranked
	floors   []func() // closed last, in reverse order
}

type ranked struct {
	rank rank
	run.Named
}

func newHouse(log *slog.Logger, roles ...string) *house {
	h := &house{log: log, metrics: obs.NewMetrics(version), health: obs.NewHealth(), web: newWeb(log)}
	h.board = board{started: time.Now(), roles: roles}
	h.web.door("GET /healthz", "is the process alive", h.health.Live())
	h.web.door("GET /readyz", "is everything it needs there", h.health.Ready())
	h.web.door("GET /metrics", "Prometheus metrics", h.metrics.Handler())
	h.web.screen("GET /v1/status", "what runs, how far log and database are", h.board.handler())
	return h
}

// add puts a service into the house.
func (h *house) add(r rank, name string, service run.Service) {
	h.services = append(h.services, ranked{r, run.Named{Name: name, Service: service}})
}

// floor has close called when everything else has stopped.
func (h *house) floor(close func()) { h.floors = append(h.floors, close) }

// close closes the floors, the last opened first.
func (h *house) close() {
	for _, close := range slices.Backward(h.floors) {
		close()
	}
	h.floors = nil
}

// run runs the house until ctx is done or something fails, and leaves nothing
// running.
func (h *house) run(ctx context.Context) error {
	slices.SortStableFunc(h.services, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	named := make([]run.Named, 0, len(h.services))
	for _, s := range h.services {
		named = append(named, s.Named)
	}
	return run.Together(ctx, h.log, grace, named...)
}

// openLog connects to Kafka.
func (h *house) openLog(ctx context.Context, f kafkaFlags) error {
	if len(f.Kafka) == 0 {
		return need("--kafka", "name Kafka's bootstrap servers")
	}
	log, err := stream.Open(ctx, stream.Config{
		Brokers: f.Kafka, Prefix: f.KafkaPrefix, Partitions: f.KafkaPartitions, Replication: f.KafkaReplication,
		Log: h.log, Events: h.metrics.Stream(),
	})
	if err != nil {
		return err
	}
	h.kafka, h.prefix = log, f.KafkaPrefix
	h.floor(log.Close)
	h.health.Check("kafka", func(ctx context.Context) error {
		_, _, err := log.Readings().Bounds(ctx)
		return err
	})
	h.board.kafka = log
	return nil
}

// openDatabase connects to PostgreSQL.
func (h *house) openDatabase(ctx context.Context, url string) error {
	db, err := storage.Open(ctx, url, storage.Config{Log: h.log})
	if err != nil {
		return err
	}
	h.database, h.url = db, url
	h.floor(db.Close)
	h.health.Check("postgres", db.Ping)
	h.board.database = db
	return nil
}

// How many read the past at once. Each holds a connection and a snapshot for as
// long as its client takes.
const (
	pastReaders  = 12
	queryReaders = 8
)

// openReads connects to the database once more, for those who read at their
// clients' pace: the sink, logins and readiness never wait for a slow screen.
func (h *house) openReads(ctx context.Context) (*storage.DB, error) {
	db, err := storage.Open(ctx, h.url, storage.Config{MaxConns: pastReaders + queryReaders + 4, Name: "millrace reads", Log: h.log})
	if err != nil {
		return nil, err
	}
	h.floor(db.Close)
	return db, nil
}

// migrated says whether the schema is there, and what to do if not.
func migrated(db *storage.DB) error {
	if db.Layout() == "" {
		return fmt.Errorf("the database has no schema of millrace yet: run 'millrace migrate --postgres …' once")
	}
	return nil
}
