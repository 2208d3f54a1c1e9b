package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/devices"
)

// Devices is the table of devices: a [devices.Store] and [devices.Sightings]. It
// is safe for concurrent use.
type Devices struct{ db *DB }

var (
	_ devices.Store     = (*Devices)(nil)
	_ devices.Sightings = (*Devices)(nil)
)

// NewDevices is the table of devices in db.
func NewDevices(db *DB) *Devices { return &Devices{db} }

// List answers all devices in byte order of their names: those that were added,
// and those that ever spoke.
func (d *Devices) List(ctx context.Context) ([]devices.Device, error) {
	rows, _ := d.db.pool.Query(ctx, `select name, created, disabled, token_hash, seen from devices order by name`)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (dev devices.Device, err error) {
		var seen *time.Time
		err = row.Scan(&dev.Name, &dev.Created, &dev.Disabled, &dev.TokenHash, &seen)
		if seen != nil {
			dev.Seen = *seen
		}
		return dev, err
	})
	if err != nil {
		return nil, fmt.Errorf("storage: list devices: %w", d.db.explain(err))
	}
	return list, nil
}

// Save makes the device, or replaces TokenHash and Disabled of the one there is.
func (d *Devices) Save(ctx context.Context, device devices.Device) error {
	_, err := d.db.pool.Exec(ctx, `
		insert into devices (name, disabled, token_hash) values ($1, $2, $3)
		on conflict (name) do update set disabled = excluded.disabled, token_hash = excluded.token_hash`,
		device.Name, device.Disabled, device.TokenHash)
	if err != nil {
		return fmt.Errorf("storage: save device %s: %w", device.Name, d.db.explain(err))
	}
	return nil
}

// Seen takes down when devices were last heard of, in one round trip. A time
// before the one there is changes nothing.
func (d *Devices) Seen(ctx context.Context, at map[string]time.Time) error {
	names := slices.Sorted(maps.Keys(at)) // one order of locks for all writers
	times := make([]time.Time, len(names))
	for i, name := range names {
		times[i] = at[name]
	}
	if _, err := d.db.pool.Exec(ctx, seenSQL, names, times); err != nil {
		return fmt.Errorf("storage: devices seen: %w", d.db.explain(err))
	}
	return nil
}

// seenSQL makes or updates devices; the names must be sorted and each there once.
const seenSQL = `
	insert into devices (name, created, seen)
	select name, at, at from unnest($1::text[], $2::timestamptz[]) k(name, at)
	on conflict (name) do update set seen = excluded.seen
	where devices.seen is null or devices.seen < excluded.seen`
