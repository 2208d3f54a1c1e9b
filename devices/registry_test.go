package devices_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/devices"
	"millrace/telemetry"
)

// inBubble runs a registry on a store in a bubble, where a second takes no time.
func inBubble(t *testing.T, config devices.RegistryConfig, test func(t *testing.T, r *devices.Registry, store *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := newMemory()
		r := devices.NewRegistry(store, config)
		over := make(chan error)
		go func() { over <- r.Run(ctx) }()
		synctest.Wait()
		test(t, r, store)
		cancel()
		if err := <-over; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// pass lets bubble time go by, and what is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func add(t *testing.T, r *devices.Registry, name string) string {
	t.Helper()
	token, err := r.Add(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestLogins(t *testing.T) {
	inBubble(t, devices.RegistryConfig{}, func(t *testing.T, r *devices.Registry, _ *memory) {
		a, b := add(t, r, "a"), add(t, r, "b")
		if a == b || !strings.HasPrefix(a, devices.TokenPrefix) || len(a) != len(devices.TokenPrefix)+43 {
			t.Fatalf("tokens are %q and %q", a, b)
		}
		f := func(user, password string, want error) {
			t.Helper()
			p, err := r.Authenticate(t.Context(), user, password)
			if !errors.Is(err, want) || want != nil && p != (devices.Principal{}) || want == nil && (p.Device != "a" || p.Open) {
				t.Errorf("user %.8q: %+v, %v; want %v", user, p, err, want)
			}
			if err != nil && strings.Contains(err.Error(), a) {
				t.Errorf("the error tells the token: %v", err)
			}
		}
		f("a", a, nil)
		f(a, "", nil)
		f("", a, nil)
		f("b", a, telemetry.ErrUnauthorized)
		f("a", b, telemetry.ErrUnauthorized)
		f("a", "", telemetry.ErrUnauthorized)
		f("", "", telemetry.ErrUnauthorized)
		f("a", "password", telemetry.ErrUnauthorized)
		f("a", a[:len(a)-1], telemetry.ErrUnauthorized)
		f("a", a+"A", telemetry.ErrUnauthorized)
		f("a", devices.TokenPrefix+strings.Repeat("A", 43), telemetry.ErrUnauthorized)
		f("a", strings.ToUpper(a), telemetry.ErrUnauthorized)
	})
}

// A token made this moment works at once, and guessing costs the store little.
func TestANewTokenWorksAtOnce(t *testing.T) {
	inBubble(t, devices.RegistryConfig{}, func(t *testing.T, r *devices.Registry, store *memory) {
		token := add(t, r, "a")
		began := time.Now()
		if _, err := r.Authenticate(t.Context(), "a", token); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("the first login took %s", took)
		}
		before := store.calls()
		for i := range 1000 {
			go func() {
				_, err := r.Authenticate(t.Context(), "a", fmt.Sprintf("%s%043d", devices.TokenPrefix, i))
				if !errors.Is(err, telemetry.ErrUnauthorized) {
					t.Errorf("a guess: %v", err)
				}
			}()
		}
		pass(900 * time.Millisecond)
		if looks := store.calls() - before; looks > 3 {
			t.Errorf("a thousand guesses at once cost %d looks at the store", looks)
		}
	})
}

// A device that loses its login is told of within two seconds, and cannot log in.
func TestRevocation(t *testing.T) {
	var revoked []string
	config := devices.RegistryConfig{Events: devices.Events{Revoked: func(string) {}}}
	inBubble(t, config, func(t *testing.T, r *devices.Registry, store *memory) {
		stop := r.Watch(func(device string) { revoked = append(revoked, device) })
		a, b := add(t, r, "a"), add(t, r, "b")
		pa, errA := r.Authenticate(t.Context(), "a", a)
		pb, errB := r.Authenticate(t.Context(), "b", b)
		if errA != nil || errB != nil || !r.Allows(pa) || !r.Allows(pb) {
			t.Fatal(errA, errB)
		}
		if err := r.Disable(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		pass(1100 * time.Millisecond)
		if fmt.Sprint(revoked) != "[a]" || r.Allows(pa) || !r.Allows(pb) {
			t.Errorf("revoked are %q", revoked)
		}
		if _, err := r.Authenticate(t.Context(), "a", a); !errors.Is(err, telemetry.ErrForbidden) {
			t.Errorf("a disabled device: %v", err)
		}
		rotated, err := r.Rotate(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		pass(1100 * time.Millisecond)
		if fmt.Sprint(revoked) != "[a b]" || r.Allows(pb) {
			t.Errorf("revoked are %q", revoked)
		}
		if _, err := r.Authenticate(t.Context(), "b", b); !errors.Is(err, telemetry.ErrUnauthorized) {
			t.Errorf("the old token: %v", err)
		}
		if p, err := r.Authenticate(t.Context(), "b", rotated); err != nil || !r.Allows(p) {
			t.Errorf("the new token: %v", err)
		}
		if err := r.Enable(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		pass(1100 * time.Millisecond)
		if p, err := r.Authenticate(t.Context(), "a", a); err != nil || !r.Allows(p) {
			t.Errorf("enabled again: %v", err)
		}
		stop()
		if err := r.Disable(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Second)
		if len(revoked) != 2 {
			t.Errorf("a stopped watch was told: %q", revoked)
		}
	})
}

// A store that is away: known devices go on, unknown tokens are told so, it is
// asked ever more slowly, and when it is back all is well.
func TestTheStoreIsAway(t *testing.T) {
	var failed, refreshed atomic.Int64
	config := devices.RegistryConfig{Events: devices.Events{
		Failed:    func(error) { failed.Add(1) },
		Refreshed: func(int, time.Duration) { refreshed.Add(1) },
	}}
	inBubble(t, config, func(t *testing.T, r *devices.Registry, store *memory) {
		a := add(t, r, "a")
		pass(2 * time.Second)
		store.set(errors.New("connection refused"))
		pass(time.Minute)
		if n := failed.Load(); n < 5 || n > 20 {
			t.Errorf("the store was asked %d times in a minute", n)
		}
		if _, err := r.Authenticate(t.Context(), "a", a); err != nil {
			t.Errorf("a known device: %v", err)
		}
		unknown := devices.TokenPrefix + strings.Repeat("A", 43)
		if _, err := r.Authenticate(t.Context(), "", unknown); !errors.Is(err, telemetry.ErrUnavailable) {
			t.Errorf("an unknown token: %v", err)
		}
		if _, err := r.List(t.Context()); err == nil {
			t.Error("List answers from a store that is away")
		}
		store.set(nil)
		before := refreshed.Load()
		if _, err := r.Authenticate(t.Context(), "", unknown); !errors.Is(err, telemetry.ErrUnauthorized) {
			t.Errorf("an unknown token: %v", err)
		}
		if refreshed.Load() == before {
			t.Error("the login did not have the store asked")
		}
	})
}

// A store that hangs does not hold a login for ever.
func TestTheStoreHangs(t *testing.T) {
	inBubble(t, devices.RegistryConfig{Timeout: time.Second}, func(t *testing.T, r *devices.Registry, store *memory) {
		store.mu.Lock()
		store.delay = time.Hour
		store.mu.Unlock()
		began := time.Now()
		_, err := r.Authenticate(t.Context(), "", devices.TokenPrefix+strings.Repeat("A", 43))
		if !errors.Is(err, telemetry.ErrUnavailable) || time.Since(began) > 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestAdding(t *testing.T) {
	ctx := t.Context()
	store := newMemory()
	r := devices.NewRegistry(store, devices.RegistryConfig{})
	token := add(t, r, "a")
	if _, err := r.Add(ctx, "a"); !errors.Is(err, devices.ErrExists) || !strings.Contains(err.Error(), "rotate a") {
		t.Errorf("adding again: %v", err)
	}
	refusal := (*telemetry.Refusal)(nil)
	if _, err := r.Add(ctx, "a b"); !errors.As(err, &refusal) {
		t.Errorf("a name out of form: %v", err)
	}
	for _, err := range []error{r.Disable(ctx, "x"), r.Enable(ctx, "x")} {
		if !errors.Is(err, telemetry.ErrNotFound) {
			t.Errorf("no such device: %v", err)
		}
	}
	if _, err := r.Rotate(ctx, "x"); !errors.Is(err, telemetry.ErrNotFound) {
		t.Errorf("no such device: %v", err)
	}
	if err := store.Seen(ctx, map[string]time.Time{"seen": time.Now()}); err != nil {
		t.Fatal(err)
	}
	add(t, r, "seen") // it had no token
	list, err := r.List(ctx)
	if err != nil || len(list) != 2 || list[1].Seen.IsZero() || list[1].TokenHash == nil {
		t.Errorf("%v, %v", list, err)
	}
	for _, d := range list {
		if strings.Contains(string(d.TokenHash), token) || len(d.TokenHash) != 32 {
			t.Errorf("%s is stored as %x", d.Name, d.TokenHash)
		}
	}
}

func TestPrincipal(t *testing.T) {
	f := func(p devices.Principal, device string, want bool) {
		t.Helper()
		if p.MayPublish(device) != want {
			t.Errorf("%+v for %q: %t", p, device, !want)
		}
	}
	f(devices.Principal{}, "", false)
	f(devices.Principal{}, "a", false)
	f(devices.Principal{Device: "a"}, "a", true)
	f(devices.Principal{Device: "a"}, "b", false)
	f(devices.Principal{Device: "a"}, "", false)
	f(devices.Principal{Open: true}, "a", true)
	for user, device := range map[string]string{"a": "a", "a b": "", "": ""} {
		p, err := devices.Open{}.Authenticate(t.Context(), user, "anything")
		if err != nil || p != (devices.Principal{Device: device, Open: true}) {
			t.Errorf("open: %q is %+v, %v", user, p, err)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	store := newMemory()
	r := devices.NewRegistry(store, devices.RegistryConfig{})
	token, err := r.Add(b.Context(), "a")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	over := make(chan error)
	go func() { over <- r.Run(ctx) }()
	for b.Loop() {
		if _, err := r.Authenticate(ctx, "a", token); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-over
}
