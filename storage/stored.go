package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Stored answers for each partition of the log that the sink has claimed the
// offset behind the last record stored; log is the topic's identity, as in
// [telemetry.Cursor].
func (db *DB) Stored(ctx context.Context, log uint64) (map[int32]int64, error) {
	rows, _ := db.pool.Query(ctx, `select "partition", greatest(next_offset, 0) from log_offsets where log_id = $1`, int64(log))
	stored := make(map[int32]int64)
	var partition int32
	var next int64
	_, err := pgx.ForEachRow(rows, []any{&partition, &next}, func() error {
		stored[partition] = next
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("storage: how far the sink is: %w", db.explain(err))
	}
	return stored, nil
}
