package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// copySignature begins a binary COPY: the signature, no flags, no extension
// (PostgreSQL, COPY, "Binary Format").
const copySignature = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// postgresEpoch is 2000-01-01 in Unix microseconds: where timestamptz counts from.
const postgresEpoch = 946_684_800_000_000

// unnestRows is how many rows one insert of arrays takes.
const unnestRows = 5_000

// write puts the rows into samples. On the layout plain the server finds each
// row's partition; a COPY for each day's table was not faster.
func (b *batch) write(ctx context.Context, tx pgx.Tx) error {
	if len(b.rows) == 0 {
		return nil
	}
	if b.h.sink.cfg.Path == PathUnnest {
		return b.unnest(ctx, tx)
	}
	if err := b.packed(ctx, tx); err != nil {
		return err
	}
	b.encode()
	_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(b.encoded),
		`copy samples ("time", series_id, value, text) from stdin (format binary)`)
	return err
}

// What makes a COPY worth packing into the columnstore on the way: enough rows,
// and enough of them for each series, because each series becomes a row of arrays.
const (
	packRows   = 10_000
	packSeries = 100 // rows a series
)

// packed turns the direct path into the columnstore on for this transaction, on
// TimescaleDB from 2.21 and where it pays.
func (b *batch) packed(ctx context.Context, tx pgx.Tx) error {
	if !b.h.sink.db.timescale() || len(b.rows) < packRows {
		return nil
	}
	series := 1
	for i := 1; i < len(b.rows); i++ {
		if b.rows[i].id != b.rows[i-1].id {
			series++
		}
	}
	if len(b.rows)/series < packSeries {
		return nil
	}
	_, err := tx.Exec(ctx, `
		select set_config(name, 'on', true) from pg_settings
		where name = 'timescaledb.enable_direct_compress_copy'`)
	return err
}

// encode lays the rows out as binary COPY reads them. pgx's own CopyFrom boxes
// each field in an interface and runs a goroutine and a pipe; this is a loop.
func (b *batch) encode() {
	dst := append(b.encoded[:0], copySignature...)
	for i := range b.rows {
		dst = b.appendRow(dst, &b.rows[i])
	}
	b.encoded = append(dst, 0xff, 0xff)
}

func (b *batch) appendRow(dst []byte, r *row) []byte {
	dst = append(dst, 0, 4, 0, 0, 0, 8) // four fields; the first has eight bytes
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.time-postgresEpoch))
	dst = append(dst, 0, 0, 0, 4)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.id))
	if r.kind == telemetry.KindText {
		dst = append(dst, 0xff, 0xff, 0xff, 0xff)
	} else {
		dst = append(dst, 0, 0, 0, 8)
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(r.number))
	}
	if r.text == noText {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	text := b.texts[r.text]
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(text)))
	return append(dst, text...)
}

func (b *batch) unnest(ctx context.Context, tx pgx.Tx) error {
	for some := range slices.Chunk(b.rows, unnestRows) {
		times, ids := make([]time.Time, len(some)), make([]int32, len(some))
		numbers, texts := make([]*float64, len(some)), make([]*string, len(some))
		for i := range some {
			times[i], ids[i] = time.UnixMicro(some[i].time), some[i].id
			if some[i].kind != telemetry.KindText {
				numbers[i] = &some[i].number
			}
			if some[i].text != noText {
				texts[i] = &b.texts[some[i].text]
			}
		}
		_, err := tx.Exec(ctx, `
			insert into samples ("time", series_id, value, text)
			select * from unnest($1::timestamptz[], $2::int[], $3::float8[], $4::text[])`, times, ids, numbers, texts)
		if err != nil {
			return err
		}
	}
	return nil
}
