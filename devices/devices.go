// Package devices knows who a device is: its name, its token, whether it may
// log in, what it may publish, and when it was last heard of. It speaks to no
// database: a [Store] holds the devices, a [Registry] keeps a copy of them all
// in memory and answers logins from that copy.
//
//	millrace devices add ──▶ Registry.Add ──▶ Store ◀─ every second ─ Registry.Run
//	                                                                     │ copy
//	mqtt, http: user, password ──▶ Registry.Authenticate ◀───────────────┘
//	                                  └─▶ Principal ──▶ MayPublish(device)
//
// Its invariant: a token exists in clear only in the answer of Add or Rotate and
// in the device; everything else here holds its SHA-256. A token is 256 random
// bits, so that a fast hash is enough, and a login costs one hash and one look
// into a map, whatever the number of devices.
package devices

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"millrace/telemetry"
)

// ErrExists: the device has a token already. Replacing it is [Registry.Rotate]
// and never happens by the way.
var ErrExists = errors.New("exists already")

// Principal is who logged in. The zero Principal may publish nothing.
type Principal struct {
	// Device is the name from the login. With Open it may be empty, and then
	// the login names no device.
	Device string
	// Open: may publish as anybody, because nobody is asked who they are.
	Open bool
	// hash is of the token that logged in: a device's next token must not
	// answer for its last one. An array, so that principals stay comparable.
	hash [sha256.Size]byte
}

// MayPublish says whether the principal may publish readings of device.
func (p Principal) MayPublish(device string) bool {
	return p.Open || device != "" && device == p.Device
}

// Device is a device as a [Store] keeps it.
type Device struct {
	Name      string
	Created   time.Time // set by the store at the first Save
	Disabled  bool      // may not log in
	TokenHash []byte    // SHA-256 of the token; nil: there is none, so no login
	Seen      time.Time // when it was last heard of; zero: never
}

// Store keeps devices. Its methods are safe for concurrent use.
type Store interface {
	// List answers all devices, in byte order of their names. What it returns
	// belongs to the caller.
	List(ctx context.Context) ([]Device, error)
	// Save makes the device, or replaces TokenHash and Disabled of the one
	// there is; its Created and Seen stay.
	Save(ctx context.Context, d Device) error
}

// Sightings is what a [Store] may be as well: it takes down when devices were
// last heard of. Devices it does not know are made, without a token. A time
// before the one it has changes nothing. The map is not kept.
type Sightings interface {
	Seen(ctx context.Context, at map[string]time.Time) error
}

// Open is the authenticator that lets everybody in, for listeners on the
// loopback address. A user name in the form of a device name is the login's
// device; any other, and the password, is ignored.
type Open struct{}

// Authenticate never fails.
func (Open) Authenticate(_ context.Context, user, _ string) (Principal, error) {
	if telemetry.CheckDevice(user) != nil {
		user = ""
	}
	return Principal{Device: user, Open: true}, nil
}
