package devices

import (
	"context"
	"fmt"

	"millrace/telemetry"
)

// Add gives the device its token, making the device if there is none, and
// answers the token: this once, it cannot be shown again. A device that has a
// token keeps it: the error wraps [ErrExists]. A name out of form is a
// *[telemetry.Refusal].
func (r *Registry) Add(ctx context.Context, name string) (token string, err error) {
	if err := telemetry.CheckDevice(name); err != nil {
		return "", fmt.Errorf("devices: add: %w", err)
	}
	device, found, err := r.find(ctx, name)
	if err != nil {
		return "", fmt.Errorf("devices: add %s: %w", name, err)
	}
	if found && device.TokenHash != nil {
		return "", fmt.Errorf("devices: add %s: %w: the device has a token; replace it with millrace devices rotate %s",
			name, ErrExists, name)
	}
	device.Name = name
	return r.give(ctx, "add", device)
}

// Rotate replaces the device's token and answers the new one. The old one stops
// working within two seconds, and the device's connections are closed. The
// error wraps [telemetry.ErrNotFound] for a device there is not.
func (r *Registry) Rotate(ctx context.Context, name string) (token string, err error) {
	device, err := r.existing(ctx, "rotate", name)
	if err != nil {
		return "", err
	}
	return r.give(ctx, "rotate", device)
}

// Disable takes the device's login: within two seconds no login succeeds and
// its connections are closed. Its token and its readings stay. The error wraps
// [telemetry.ErrNotFound] for a device there is not.
func (r *Registry) Disable(ctx context.Context, name string) error {
	return r.set(ctx, "disable", name, true)
}

// Enable undoes Disable; the token is the one it was.
func (r *Registry) Enable(ctx context.Context, name string) error {
	return r.set(ctx, "enable", name, false)
}

// List answers all devices as the store has them now, in order of their names.
func (r *Registry) List(ctx context.Context) ([]Device, error) {
	list, err := r.store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("devices: list: %w", err)
	}
	return list, nil
}

func (r *Registry) set(ctx context.Context, verb, name string, disabled bool) error {
	device, err := r.existing(ctx, verb, name)
	if err != nil {
		return err
	}
	device.Disabled = disabled
	if err := r.store.Save(ctx, device); err != nil {
		return fmt.Errorf("devices: %s %s: %w", verb, name, err)
	}
	return nil
}

func (r *Registry) give(ctx context.Context, verb string, device Device) (string, error) {
	token := newToken()
	hash := tokenHash(token)
	device.TokenHash = hash[:]
	if err := r.store.Save(ctx, device); err != nil {
		return "", fmt.Errorf("devices: %s %s: %w", verb, device.Name, err)
	}
	return token, nil
}

func (r *Registry) existing(ctx context.Context, verb, name string) (Device, error) {
	device, found, err := r.find(ctx, name)
	if err == nil && !found {
		err = fmt.Errorf("%w: no device of this name; millrace devices list shows them", telemetry.ErrNotFound)
	}
	if err != nil {
		return Device{}, fmt.Errorf("devices: %s %s: %w", verb, name, err)
	}
	return device, nil
}

// find asks the store, not the copy: what changes a device must see its last state.
func (r *Registry) find(ctx context.Context, name string) (Device, bool, error) {
	list, err := r.store.List(ctx)
	if err != nil {
		return Device{}, false, err
	}
	for _, d := range list {
		if d.Name == name {
			return d, true, nil
		}
	}
	return Device{}, false, nil
}
