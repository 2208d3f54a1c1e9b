package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// DeadLetter is a row of dead_letters.
type DeadLetter struct {
	ID       int64              `json:"id"`
	LogTopic string             `json:"log_topic"` // the Kafka topic in which the record stands
	Log      uint64             `json:"-"`         // the topic's identity, as in [telemetry.Cursor]
	Position telemetry.Position `json:"position"`
	Received time.Time          `json:"rx"`
	Reason   telemetry.Reason   `json:"reason"`
	Detail   string             `json:"detail"`
	Source   string             `json:"source"` // the door: mqtt, http, bridge; "" for what the sink refused
	Topic    string             `json:"topic"`  // the MQTT topic or HTTP path
	Client   string             `json:"client"`
	Device   string             `json:"device"` // "" where it is not known
	Payload  []byte             `json:"payload"`
	Retried  time.Time          `json:"retried,omitzero"` // when it was last sent again; zero: never
}

// DeadFilter chooses dead letters. The zero DeadFilter is the newest 100.
type DeadFilter struct {
	Reason    telemetry.Reason // "": any
	Device    string           // "": any
	Since     time.Time        // received then or later; zero: any
	Unretried bool             // only those never sent again
	Before    int64            // ids below this one, for the next page; 0: from the newest
	Limit     int              // 0: 100
}

// DeadLetters is the table of what could not be accepted. It is safe for
// concurrent use.
type DeadLetters struct{ db *DB }

// NewDeadLetters is the table of dead letters in db.
func NewDeadLetters(db *DB) *DeadLetters { return &DeadLetters{db} }

const deadColumns = `id, log_topic, log_id, "partition", "offset", rx, reason, detail, source, topic, client, device, payload, retried`

// List answers dead letters, the newest first.
func (d *DeadLetters) List(ctx context.Context, f DeadFilter) ([]DeadLetter, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	rows, _ := d.db.pool.Query(ctx, `
		select `+deadColumns+` from dead_letters
		where ($1 = '' or reason = $1) and ($2 = '' or device = $2)
			and ($3::timestamptz is null or rx >= $3) and (not $4 or retried is null) and ($5 = 0 or id < $5)
		order by id desc limit $6`,
		string(f.Reason), f.Device, orNull(f.Since), f.Unretried, f.Before, f.Limit)
	list, err := pgx.CollectRows(rows, scanDead)
	if err != nil {
		return nil, fmt.Errorf("storage: list dead letters: %w", d.db.explain(err))
	}
	return list, nil
}

// Show answers one dead letter. The error wraps [telemetry.ErrNotFound] where
// there is none of this id.
func (d *DeadLetters) Show(ctx context.Context, id int64) (DeadLetter, error) {
	rows, _ := d.db.pool.Query(ctx, `select `+deadColumns+` from dead_letters where id = $1`, id)
	list, err := pgx.CollectRows(rows, scanDead)
	switch {
	case err != nil:
		return DeadLetter{}, fmt.Errorf("storage: dead letter %d: %w", id, d.db.explain(err))
	case len(list) == 0:
		return DeadLetter{}, fmt.Errorf("storage: dead letter %d: %w: millrace dead list shows them", id, telemetry.ErrNotFound)
	}
	return list[0], nil
}

// Count answers how many there are of each reason.
func (d *DeadLetters) Count(ctx context.Context) (map[telemetry.Reason]int64, error) {
	rows, _ := d.db.pool.Query(ctx, `select reason, count(*) from dead_letters group by reason`)
	counts := make(map[telemetry.Reason]int64)
	var reason string
	var n int64
	_, err := pgx.ForEachRow(rows, []any{&reason, &n}, func() error {
		counts[telemetry.Reason(reason)] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("storage: count dead letters: %w", d.db.explain(err))
	}
	return counts, nil
}

// MarkRetried notes that the dead letter was sent again at that time. The error
// wraps [telemetry.ErrNotFound] where there is none of this id.
func (d *DeadLetters) MarkRetried(ctx context.Context, id int64, at time.Time) error {
	tag, err := d.db.pool.Exec(ctx, `update dead_letters set retried = $2 where id = $1`, id, at)
	switch {
	case err != nil:
		return fmt.Errorf("storage: dead letter %d: %w", id, d.db.explain(err))
	case tag.RowsAffected() == 0:
		return fmt.Errorf("storage: dead letter %d: %w", id, telemetry.ErrNotFound)
	}
	return nil
}

func scanDead(row pgx.CollectableRow) (l DeadLetter, err error) {
	var log int64
	var retried *time.Time
	err = row.Scan(&l.ID, &l.LogTopic, &log, &l.Position.Partition, &l.Position.Offset, &l.Received, &l.Reason,
		&l.Detail, &l.Source, &l.Topic, &l.Client, &l.Device, &l.Payload, &retried)
	l.Log = uint64(log)
	if retried != nil {
		l.Retried = *retried
	}
	return l, err
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
