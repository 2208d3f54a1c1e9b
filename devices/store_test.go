package devices_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"millrace/devices"
)

// memory is a Store and its Sightings, in memory.
type memory struct {
	mu     sync.Mutex
	list   map[string]devices.Device
	lists  int           // calls of List
	fail   error         // what List answers
	delay  time.Duration // that List takes
	sights []int         // devices a call of Seen
}

func newMemory() *memory { return &memory{list: make(map[string]devices.Device)} }

func (m *memory) List(ctx context.Context) ([]devices.Device, error) {
	m.mu.Lock()
	m.lists++
	fail, delay := m.fail, m.delay
	list := make([]devices.Device, 0, len(m.list))
	for _, d := range m.list {
		d.TokenHash = bytes.Clone(d.TokenHash)
		list = append(list, d)
	}
	m.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	slices.SortFunc(list, func(a, b devices.Device) int { return cmp.Compare(a.Name, b.Name) })
	return list, fail
}

func (m *memory) Save(_ context.Context, d devices.Device) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	is, found := m.list[d.Name]
	if !found {
		is = devices.Device{Name: d.Name, Created: time.Now()}
	}
	is.TokenHash, is.Disabled = bytes.Clone(d.TokenHash), d.Disabled
	m.list[d.Name] = is
	return nil
}

func (m *memory) Seen(_ context.Context, at map[string]time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sights = append(m.sights, len(at))
	if m.fail != nil {
		return m.fail
	}
	for name, seen := range at {
		d, found := m.list[name]
		if !found {
			d = devices.Device{Name: name, Created: time.Now()}
		}
		if seen.After(d.Seen) {
			d.Seen = seen
		}
		m.list[name] = d
	}
	return nil
}

func (m *memory) set(fail error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

func (m *memory) calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lists
}

// exercise holds a new and empty store to what the Store and Sightings
// interfaces say. The store in package storage holds itself to the same list.
func exercise(t *testing.T, store interface {
	devices.Store
	devices.Sightings
},
) {
	ctx := t.Context()
	if got := listed(t, store); len(got) != 0 {
		t.Fatalf("a new store has %v", got)
	}
	hash, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{0}, 32)
	for _, name := range []string{"b", "a", "B", "a.b", "a-b", "a:b", "a_b"} {
		must(t, store.Save(ctx, devices.Device{Name: name, TokenHash: hash}))
	}
	a := listed(t, store)["a"]
	if a.Created.IsZero() || a.Disabled || !bytes.Equal(a.TokenHash, hash) || !a.Seen.IsZero() {
		t.Errorf("saved anew, a is %+v", a)
	}
	seen := time.Date(2026, 11, 21, 22, 0, 0, 123456000, time.UTC)
	must(t, store.Seen(ctx, map[string]time.Time{"a": seen, "new": seen}))
	must(t, store.Save(ctx, devices.Device{Name: "a", TokenHash: other, Disabled: true}))
	changed := listed(t, store)["a"]
	if !changed.Created.Equal(a.Created) || !changed.Disabled || !bytes.Equal(changed.TokenHash, other) || !changed.Seen.Equal(seen) {
		t.Errorf("saved again, a is %+v", changed)
	}
	if made := listed(t, store)["new"]; made.Name != "new" || made.TokenHash != nil || made.Disabled || !made.Seen.Equal(seen) {
		t.Errorf("a device only seen is %+v", made)
	}
	must(t, store.Seen(ctx, map[string]time.Time{"a": seen.Add(-time.Hour)}))
	must(t, store.Seen(ctx, nil))
	if again := listed(t, store)["a"]; !again.Seen.Equal(seen) {
		t.Errorf("an older sighting made it %s", again.Seen)
	}
	must(t, store.Save(ctx, devices.Device{Name: "a"}))
	if bare := listed(t, store)["a"]; bare.TokenHash != nil || bare.Disabled {
		t.Errorf("without token and enabled, a is %+v", bare)
	}
	exerciseTogether(t, store)
}

// exerciseTogether saves the same devices from many goroutines.
func exerciseTogether(t *testing.T, store devices.Store) {
	t.Helper()
	before := len(listed(t, store))
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := store.Save(t.Context(), devices.Device{Name: fmt.Sprintf("c%d", i%4), TokenHash: make([]byte, 32)})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := len(listed(t, store)); got != before+4 {
		t.Errorf("there are %d devices, want %d", got, before+4)
	}
}

// listed is the store's devices by name.
func listed(t *testing.T, store devices.Store) map[string]devices.Device {
	t.Helper()
	all, err := store.List(t.Context())
	must(t, err)
	if !slices.IsSortedFunc(all, func(a, b devices.Device) int { return cmp.Compare(a.Name, b.Name) }) {
		t.Errorf("the list is not in byte order of names: %v", all)
	}
	byName := make(map[string]devices.Device)
	for _, d := range all {
		byName[d.Name] = d
	}
	if len(byName) != len(all) {
		t.Errorf("a name stands twice in %v", all)
	}
	return byName
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestMemoryStore(t *testing.T) { exercise(t, newMemory()) }
