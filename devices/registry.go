package devices

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"millrace/telemetry"
)

// RegistryConfig configures a [Registry]. The zero value is a good one.
type RegistryConfig struct {
	// Refresh is the time between two looks at the store; 0: a second. It is
	// how long a revoked token goes on working at most, the look itself aside.
	Refresh time.Duration
	// Timeout bounds one look at the store; 0: five seconds.
	Timeout time.Duration
	Log     *slog.Logger // nil: none
	Events  Events
}

// Events of a registry. Each may be nil. They are called from several goroutines
// and must not block.
type Events struct {
	Refreshed func(devices int, took time.Duration) // the store was read
	Failed    func(err error)                       // it could not be; the last copy goes on
	Login     func(ok bool)                         // somebody logged in, or could not
	Revoked   func(device string)                   // a device lost its login
}

// missGap is the least time between two looks at the store that unknown tokens
// ask for: it bounds what somebody who invents tokens costs the store.
const missGap = 100 * time.Millisecond

// maxBackoff bounds the time between two looks while the store fails.
const maxBackoff = 10 * time.Second

// Registry answers who a device is from a copy of the store's devices, which
// [Registry.Run] keeps fresh. While the store is away the last copy goes on:
// devices known before can log in. Safe for concurrent use.
type Registry struct {
	store  Store
	config RegistryConfig
	known  atomic.Pointer[copied] // nil until the store was read once
	missed chan struct{}          // holds one: somebody waits for a fresher copy

	mu       sync.Mutex
	next     chan struct{}               // guarded by mu: closed when the next look to begin is over
	lastErr  error                       // guarded by mu: of the look before
	watchers map[int]func(device string) // guarded by mu
	watched  int                         // guarded by mu: watchers made so far
}

// copied is the store's devices at one instant; it never changes.
type copied struct {
	byHash map[[sha256.Size]byte]*Device
	byName map[string]*Device
}

// NewRegistry makes a registry on a store. It reads nothing yet: that is Run's.
// The methods that change devices work without Run.
func NewRegistry(store Store, config RegistryConfig) *Registry {
	if config.Refresh <= 0 {
		config.Refresh = time.Second
	}
	if config.Timeout <= 0 {
		config.Timeout = 5 * time.Second
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{
		store: store, config: config, missed: make(chan struct{}, 1),
		next: make(chan struct{}), watchers: make(map[int]func(string)),
	}
}

// Authenticate answers who logs in. A device logs in with its name as the user
// and its token as the password, or with the token alone as the user, or as the
// password (that is how a Bearer token comes).
//
// The error wraps [telemetry.ErrUnauthorized] (no such token, or not this
// device's), [telemetry.ErrForbidden] (the device is disabled) or
// [telemetry.ErrUnavailable] (the store cannot be asked about a token that is
// not in the copy). A token made this moment is found: an unknown one waits for
// the next look at the store, which comes within a tenth of a second.
func (r *Registry) Authenticate(ctx context.Context, user, password string) (Principal, error) {
	p, err := r.authenticate(ctx, user, password)
	if login := r.config.Events.Login; login != nil {
		login(err == nil)
	}
	return p, err
}

func (r *Registry) authenticate(ctx context.Context, user, password string) (Principal, error) {
	token := password
	if token == "" {
		token, user = user, ""
	}
	if !tokenShaped(token) {
		return Principal{}, fmt.Errorf("devices: %w: log in with the device's name and its token (%s…)",
			telemetry.ErrUnauthorized, TokenPrefix)
	}
	device, err := r.byToken(ctx, token)
	switch {
	case err != nil:
		return Principal{}, err
	case device == nil, user != "" && user != device.Name:
		// One answer for both: who holds another's name learns nothing.
		return Principal{}, fmt.Errorf("devices: %w: the token is not this device's; make one with millrace devices add",
			telemetry.ErrUnauthorized)
	case device.Disabled:
		return Principal{}, fmt.Errorf("devices: %w: device %s is disabled; let it in with millrace devices enable",
			telemetry.ErrForbidden, device.Name)
	}
	return Principal{Device: device.Name, hash: [sha256.Size]byte(device.TokenHash)}, nil
}

// byToken finds the token's device, asking the store once if the copy has none.
// The map compares hashes, so its timing tells nothing of the token.
func (r *Registry) byToken(ctx context.Context, token string) (*Device, error) {
	hash := tokenHash(token)
	if known := r.known.Load(); known != nil && known.byHash[hash] != nil {
		return known.byHash[hash], nil
	}
	if err := r.fresher(ctx); err != nil {
		return nil, fmt.Errorf("devices: %w: the token is not known here and the device store cannot be asked: %w",
			telemetry.ErrUnavailable, err)
	}
	return r.known.Load().byHash[hash], nil
}

// fresher waits until a look at the store that began after this call is over.
func (r *Registry) fresher(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	r.mu.Lock()
	next := r.next
	r.mu.Unlock()
	select {
	case r.missed <- struct{}{}:
	default: // somebody asked already
	}
	select {
	case <-next:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.lastErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Allows says whether the principal's device may still publish with the token
// it logged in with, as far as the last look at the store knows. Doors ask it
// behind a login and may ask it for every message: it only looks into a map.
func (r *Registry) Allows(p Principal) bool {
	if p.Open {
		return true
	}
	known := r.known.Load()
	if known == nil {
		return false
	}
	device := known.byName[p.Device]
	return device != nil && !device.Disabled && bytes.Equal(device.TokenHash, p.hash[:])
}

// Watch has revoked called with each device that loses its login from now on:
// it was disabled, its token was replaced, or it is gone. revoked is called from
// Run and must not block. A door closes the device's connections, and asks
// [Registry.Allows] once it has a new connection in its books, lest one slip in
// between. stop ends the watch; a call under way may still come.
func (r *Registry) Watch(revoked func(device string)) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.watched
	r.watched++
	r.watchers[id] = revoked
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, id)
	}
}

// tell tells the watchers which devices of before have no login, or another one,
// in now.
func (r *Registry) tell(before, now *copied) {
	if before == nil {
		return
	}
	r.mu.Lock()
	watchers := make([]func(string), 0, len(r.watchers))
	for _, w := range r.watchers {
		watchers = append(watchers, w)
	}
	r.mu.Unlock()
	for name, was := range before.byName {
		if was.Disabled || was.TokenHash == nil {
			continue
		}
		is := now.byName[name]
		if is != nil && !is.Disabled && bytes.Equal(is.TokenHash, was.TokenHash) {
			continue
		}
		r.config.Log.Info("device lost its login", "device", name)
		if r.config.Events.Revoked != nil {
			r.config.Events.Revoked(name)
		}
		for _, w := range watchers {
			w(name)
		}
	}
}
