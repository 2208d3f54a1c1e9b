package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"millrace/telemetry"
)

// Path is how rows travel into the database.
type Path string

// The paths there are. PathCopy is the fast one; PathUnnest sends arrays, for
// servers on which COPY does not work. PathAuto copies.
const (
	PathAuto   Path = "auto"
	PathCopy   Path = "copy"
	PathUnnest Path = "unnest"
)

// SinkConfig is how the sink works. The zero value is usable.
type SinkConfig struct {
	// Prefix of the topics' names as they stand in log_offsets; "": millrace.
	Prefix string
	// BatchRows is about how many values one transaction takes; 0: 50,000.
	BatchRows int
	// Path of the rows; "": PathAuto.
	Path Path
	// Writers is how many transactions run at a time, each for partitions of
	// its own; 0: two, or one where there is one processor or one connection.
	Writers int
	// MaxSeries is how many series are known in memory, about 50 bytes each,
	// before all are forgotten and read anew; 0: four million.
	MaxSeries int
	Log       *slog.Logger
	Events    Events
}

// Sink writes records into the database. It holds no goroutine and no
// connection between calls.
type Sink struct {
	db       *DB
	cfg      SinkConfig
	days     days
	readings *Handler
	dead     *Handler
}

// NewSink is a sink into a migrated database.
func NewSink(db *DB, cfg SinkConfig) (*Sink, error) {
	if err := db.migrated(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	cfg.defaults(db)
	if cfg.Path != PathCopy && cfg.Path != PathUnnest {
		return nil, fmt.Errorf("sink: path %q is not one: use auto, copy or unnest", cfg.Path)
	}
	s := &Sink{db: db, cfg: cfg}
	s.readings = &Handler{sink: s, topic: cfg.Prefix + ".readings"}
	s.dead = &Handler{sink: s, topic: cfg.Prefix + ".dead", dead: true}
	return s, nil
}

func (cfg *SinkConfig) defaults(db *DB) {
	if cfg.Prefix == "" {
		cfg.Prefix = "millrace"
	}
	if cfg.BatchRows <= 0 {
		cfg.BatchRows = 50_000
	}
	if cfg.Path == "" || cfg.Path == PathAuto {
		cfg.Path = PathCopy
	}
	if cfg.Writers <= 0 {
		cfg.Writers = max(1, min(2, runtime.GOMAXPROCS(0), int(db.pool.Config().MaxConns)))
	}
	if cfg.MaxSeries <= 0 {
		cfg.MaxSeries = 4 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
}

// Readings is the handler of the readings topic.
func (s *Sink) Readings() *Handler { return s.readings }

// Dead is the handler of the dead topic.
func (s *Sink) Dead() *Handler { return s.dead }

// Handler keeps the records of one topic. It is a stream.Handler; its methods
// may be called by any goroutine, and wait for each other.
type Handler struct {
	sink  *Sink
	topic string
	dead  bool // every record is a dead letter

	mu         sync.Mutex // protects all below
	log        uint64
	partitions map[int32]*partition
	batches    []*batch // one a writer, for its memory
}

// Claim takes the partitions, which are all that this process now holds, and
// fences whoever had them before: their transactions fail with
// [telemetry.ErrFenced] from here on. It answers for each partition the offset
// of the next record to store, -1 where none was ever stored. What is known of
// series is kept for the partitions that nobody else had meanwhile.
func (h *Handler) Claim(ctx context.Context, log uint64, partitions []int32) ([]int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fences, err := h.sink.db.claim(ctx, h.topic, log, partitions)
	if err != nil {
		return nil, fmt.Errorf("sink: claim %s: %w", h.topic, err)
	}
	held := make(map[int32]*partition, len(partitions))
	for id, fence := range fences {
		p := h.partitions[id]
		same := p != nil && h.log == log && !p.stale && p.epoch == fence.epoch-1 && p.next == fence.next
		if !same {
			p = &partition{id: id}
		}
		p.fence = fence
		held[id] = p
	}
	h.log, h.partitions = log, held
	offsets := make([]int64, len(partitions))
	for i, id := range partitions {
		offsets[i] = held[id].next
	}
	return offsets, nil
}

// Handle keeps the records and returns when they are committed. Records below a
// partition's next offset are redelivery and skipped. A batch that the database
// refuses for its data is divided until the one record at fault is found, which
// becomes a dead letter (store). The error wraps [telemetry.ErrFenced] where a
// partition is held by another process; after any other error the caller comes
// again with the same records, and what was kept is recognised by its offsets.
func (h *Handler) Handle(ctx context.Context, records []telemetry.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	groups, err := h.groups(records)
	if err == nil {
		err = h.reload(ctx, records)
	}
	if err != nil {
		return fmt.Errorf("sink: %s: %w", h.topic, err)
	}
	for len(h.batches) < len(groups) {
		h.batches = append(h.batches, &batch{h: h})
	}
	var work errgroup.Group // not WithContext: one writer's failure is no reason to lose another's commit
	for i, group := range groups {
		work.Go(func() error { return h.batches[i].keep(ctx, group) })
	}
	if err := work.Wait(); err != nil {
		if !errors.Is(err, context.Canceled) {
			h.sink.cfg.Events.failed(h.topic, err)
		}
		return fmt.Errorf("sink: %s: %w", h.topic, err)
	}
	h.forget()
	return nil
}

// groups divides the records between the writers: whole partitions, in order,
// the largest first to whom has the least.
func (h *Handler) groups(records []telemetry.Record) ([][]telemetry.Record, error) {
	runs := make(map[int32][][]telemetry.Record)
	size := make(map[int32]int)
	for len(records) > 0 {
		id, n := records[0].Partition, 1
		for n < len(records) && records[n].Partition == id {
			n++
		}
		if h.partitions[id] == nil {
			return nil, fmt.Errorf("partition %d: %w: it was not claimed", id, telemetry.ErrFenced)
		}
		runs[id] = append(runs[id], records[:n])
		size[id] += n
		records = records[n:]
	}
	ids := make([]int32, 0, len(runs))
	for id := range runs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b int32) int { return size[b] - size[a] })
	groups := make([][]telemetry.Record, min(h.sink.cfg.Writers, len(ids)))
	for _, id := range ids {
		least := 0
		for i := range groups {
			if len(groups[i]) < len(groups[least]) {
				least = i
			}
		}
		for _, run := range runs[id] {
			groups[least] = append(groups[least], run...)
		}
	}
	return groups, nil
}

// reload reads the fence of partitions whose last transaction has an unknown
// outcome. It waits for that transaction, if the server still works on it.
func (h *Handler) reload(ctx context.Context, records []telemetry.Record) error {
	var stale []int32
	for i := range records {
		if p := h.partitions[records[i].Partition]; p.stale && !slices.Contains(stale, p.id) {
			stale = append(stale, p.id)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	fences, err := h.sink.db.fences(ctx, h.sink.db.pool, h.log, stale)
	if err != nil {
		return err
	}
	for _, id := range stale {
		p := h.partitions[id]
		if fences[id].epoch != p.epoch {
			return fmt.Errorf("partition %d: %w", id, telemetry.ErrFenced)
		}
		*p = partition{id: id, fence: fences[id]}
	}
	return nil
}

// forget bounds the memory of series.
func (h *Handler) forget() {
	total := 0
	for _, p := range h.partitions {
		total += p.known
	}
	if total <= h.sink.cfg.MaxSeries {
		return
	}
	h.sink.cfg.Log.Warn("sink: more series than memory is allowed for: all are forgotten and read anew",
		slog.Int("series", total), slog.Int("limit", h.sink.cfg.MaxSeries))
	for _, p := range h.partitions {
		p.devices, p.names, p.known = nil, nil, 0
	}
}
