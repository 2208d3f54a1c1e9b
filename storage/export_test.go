package storage

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool is the database's connections, for tests to look at what is there.
func Pool(db *DB) *pgxpool.Pool { return db.pool }

// IndexAll gives all partitions their index.
func IndexAll(ctx context.Context, db *DB) error { return db.indexAll(ctx) }
