package storage_test

import (
	"errors"
	"testing"
	"time"

	"millrace/devices"
	"millrace/storage"
	"millrace/telemetry"
)

// exerciseTables: the device and dead letter tables, as commands use them.
func exerciseTables(t *testing.T, fresh func(*testing.T) *bundle) {
	b := fresh(t)
	b.handle(b.sink(0), b.say(0, "truck-2 10 speed=1"), b.say(0, "truck-2 200 speed=1"), b.say(0, "truck-2 10 speed=2"))
	t.Run("devices", func(t *testing.T) { deviceTable(t, storage.NewDevices(b.db)) })
	t.Run("dead letters", func(t *testing.T) { deadTable(t, storage.NewDeadLetters(b.db)) })
}

func deviceTable(t *testing.T, store *storage.Devices) {
	ctx := t.Context()
	if err := store.Save(ctx, devices.Device{Name: "truck-1", TokenHash: []byte("hash")}); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(ctx, devices.Device{Name: "truck-2", Disabled: true}); err != nil {
		t.Fatal(err)
	}
	at := midnight.Add(time.Hour)
	if err := store.Seen(ctx, map[string]time.Time{"truck-1": at, "truck-2": midnight, "truck-3": at}); err != nil {
		t.Fatal(err)
	}
	list, err := store.List(ctx)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	one, two, three := list[0], list[1], list[2]
	if one.Name != "truck-1" || string(one.TokenHash) != "hash" || !one.Seen.Equal(at) || one.Created.IsZero() {
		t.Errorf("%+v", one)
	}
	if two.Name != "truck-2" || !two.Disabled || two.TokenHash != nil || !two.Seen.Equal(midnight.Add(201*time.Second)) ||
		!two.Created.Equal(midnight.Add(11*time.Second)) {
		t.Errorf("%+v", two)
	}
	if three.Name != "truck-3" || three.TokenHash != nil || !three.Seen.Equal(at) {
		t.Errorf("%+v", three)
	}
}

func deadTable(t *testing.T, letters *storage.DeadLetters) {
	ctx := t.Context()
	list, err := letters.List(ctx, storage.DeadFilter{Reason: telemetry.ReasonConflict, Device: "truck-2", Unretried: true, Since: midnight})
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	id := list[0].ID
	if err := letters.MarkRetried(ctx, id, midnight); err != nil {
		t.Fatal(err)
	}
	got, err := letters.Show(ctx, id)
	if err != nil || !got.Retried.Equal(midnight) || len(got.Payload) == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, f := range map[string]storage.DeadFilter{
		"retried":      {Unretried: true},
		"other reason": {Reason: telemetry.ReasonTime},
		"later":        {Since: midnight.Add(time.Hour)},
		"before":       {Before: id},
	} {
		if list, err := letters.List(ctx, f); err != nil || len(list) != 0 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if counts, err := letters.Count(ctx); err != nil || counts[telemetry.ReasonConflict] != 1 {
		t.Errorf("%v, %v", counts, err)
	}
	if _, err := letters.Show(ctx, id+1); !errors.Is(err, telemetry.ErrNotFound) {
		t.Errorf("a letter there is not: %v", err)
	}
	if err := letters.MarkRetried(ctx, id+1, midnight); !errors.Is(err, telemetry.ErrNotFound) {
		t.Errorf("a letter there is not: %v", err)
	}
}
