package storage_test

import (
	"context"
	"slices"

	"millrace/storage"
	"millrace/telemetry"
)

// madeUp is the bundle's log as Verify reads it. Its first records may be gone.
type madeUp struct {
	said       []telemetry.Record
	partitions int
	first      int64
}

var _ storage.Log = (*madeUp)(nil)

func (b *bundle) log(partitions int) *madeUp {
	return &madeUp{said: slices.Clone(b.said), partitions: partitions}
}

func (m *madeUp) Bounds(context.Context) (first, next telemetry.Cursor, err error) {
	first, next = telemetry.Cursor{Log: logID}, telemetry.Cursor{Log: logID}
	first.Next, next.Next = make([]int64, m.partitions), make([]int64, m.partitions)
	for _, r := range m.said {
		next.Next[r.Partition] = r.Offset + 1
	}
	for i := range first.Next {
		first.Next[i] = min(m.first, next.Next[i])
	}
	return first, next, nil
}

func (m *madeUp) Follow(_ context.Context, from, to telemetry.Cursor, handle func([]telemetry.Record) error) error {
	var batch []telemetry.Record
	for _, r := range m.said {
		if !from.Seen(r.Position) && to.Seen(r.Position) {
			batch = append(batch, r)
		}
	}
	for some := range slices.Chunk(batch, 100) {
		if err := handle(some); err != nil {
			return err
		}
	}
	return nil
}
