package storage

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// fence is a partition's row in log_offsets.
type fence struct {
	epoch int64
	first int64 // offset of the first record that was read; -1: none
	next  int64 // offset of the next record to store; -1: none yet
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// claim bumps the epochs. Rows are locked in order of partition, here and in
// every transaction of the sink, so that two claims cannot wait for each other.
func (db *DB) claim(ctx context.Context, topic string, log uint64, partitions []int32) (map[int32]fence, error) {
	rows, _ := db.pool.Query(ctx, `
		insert into log_offsets as o (topic, log_id, "partition")
		select $1, $2, p from unnest($3::int[]) p
		on conflict (log_id, "partition") do update set epoch = o.epoch + 1, topic = excluded.topic
		returning "partition", epoch, first_offset, next_offset`,
		topic, int64(log), slices.Sorted(slices.Values(partitions)))
	return db.scanFences(rows)
}

// fences reads and locks the rows: it waits for transactions that write them,
// also for one whose client has lost its connection during COMMIT.
func (db *DB) fences(ctx context.Context, q querier, log uint64, partitions []int32) (map[int32]fence, error) {
	rows, _ := q.Query(ctx, `
		select "partition", epoch, first_offset, next_offset from log_offsets
		where log_id = $1 and "partition" = any($2::int[]) order by "partition" for update`,
		int64(log), partitions)
	return db.scanFences(rows)
}

func (db *DB) scanFences(rows pgx.Rows) (map[int32]fence, error) {
	fences := make(map[int32]fence)
	var id int32
	var f fence
	_, err := pgx.ForEachRow(rows, []any{&id, &f.epoch, &f.first, &f.next}, func() error {
		fences[id] = f
		return nil
	})
	return fences, db.explain(err)
}

// progress is what a batch adds to a partition's fence.
type progress struct {
	*partition
	from, to                         int64 // the first record's offset, and the one behind the last
	records, stored, duplicate, dead int64
	missed                           int64
}

// lock makes sure that all partitions are still as this process left them, and
// holds them so until the transaction ends: the compare of compare-and-swap.
func (b *batch) lock(ctx context.Context, tx pgx.Tx) error {
	ids := make([]int32, len(b.progress))
	for i := range b.progress {
		ids[i] = b.progress[i].id
	}
	fences, err := b.h.sink.db.fences(ctx, tx, b.h.log, ids)
	if err != nil {
		return err
	}
	for _, p := range b.progress {
		if got := fences[p.id]; got != p.fence {
			return fmt.Errorf("partition %d: %w (epoch %d, next offset %d; here %d, %d)",
				p.id, telemetry.ErrFenced, got.epoch, got.next, p.epoch, p.next)
		}
	}
	return nil
}

// advance queues the swap of compare-and-swap.
func (b *batch) advance(q *pgx.Batch) {
	n := len(b.progress)
	ids := make([]int32, n)
	counts := make([][]int64, 7)
	for i := range counts {
		counts[i] = make([]int64, n)
	}
	for i, p := range b.progress {
		ids[i] = p.id
		for k, v := range []int64{p.from, p.to, p.records, p.stored, p.duplicate, p.dead, p.missed} {
			counts[k][i] = v
		}
	}
	q.Queue(`
		update log_offsets o set
			first_offset = case when o.first_offset < 0 then k.first else o.first_offset end,
			next_offset = k.next, records = o.records + k.records, stored = o.stored + k.stored,
			duplicates = o.duplicates + k.duplicates, dead = o.dead + k.dead,
			missed = o.missed + k.missed, updated = now()
		from unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
			as k(id, first, next, records, stored, duplicates, dead, missed)
		where o.log_id = $1 and o."partition" = k.id`,
		int64(b.h.log), ids, counts[0], counts[1], counts[2], counts[3], counts[4], counts[5], counts[6])
}
