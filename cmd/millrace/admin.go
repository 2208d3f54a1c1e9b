package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"millrace/devices"
	"millrace/storage"
)

// databaseFlags find the database: by URL, or beside a running 'millrace up'.
type databaseFlags struct {
	dataFlag
	postgresFlags
}

func (f *databaseFlags) open(ctx context.Context) (*storage.DB, error) {
	url, err := f.url()
	if err != nil {
		return nil, err
	}
	if url == "" {
		url = f.find().Postgres
	}
	if url == "" {
		return nil, usage("no database: --postgres names one, --data the folder of a running 'millrace up' (%s has none)", f.Data)
	}
	return storage.Open(ctx, url, storage.Config{MaxConns: 4})
}

// openMigrated is open for all who need the schema.
func (f *databaseFlags) openMigrated(ctx context.Context) (*storage.DB, error) {
	db, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := migrated(db); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// migrateCommand brings the database to this program's schema.
type migrateCommand struct {
	databaseFlags
	Layout string `enum:"auto,timescale,plain" default:"auto" help:"timescale: hypertable, columnstore, continuous aggregates; plain: any PostgreSQL; auto: what the server offers."`
}

// Run migrates.
func (c *migrateCommand) Run(ctx context.Context, t *terminal) error {
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	steps := 0
	err = storage.Migrate(ctx, db, storage.MigrateOptions{Layout: storage.Layout(c.Layout)}, func(step string) {
		steps++
		t.printf("%s\n", step)
	})
	if err == nil {
		t.printf("The schema is up to date: layout %s, %d steps done now.\n", db.Layout(), steps)
	}
	return err
}

// devicesCommand administers the registry.
type devicesCommand struct {
	List    devicesList    `cmd:"" help:"List devices and when each was heard of."`
	Add     devicesAdd     `cmd:"" help:"Give a device its token; it is shown this once."`
	Rotate  devicesRotate  `cmd:"" help:"Replace a device's token; the old one stops working within two seconds."`
	Disable devicesDisable `cmd:"" help:"Take a device's login; its connections end within two seconds."`
	Enable  devicesEnable  `cmd:"" help:"Undo disable."`
}

// deviceFlags name one device.
type deviceFlags struct {
	databaseFlags
	Device string `arg:"" help:"The device's name."`
}

func (f *databaseFlags) registry(ctx context.Context, do func(r *devices.Registry) error) error {
	db, err := f.openMigrated(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	return do(devices.NewRegistry(storage.NewDevices(db), devices.RegistryConfig{}))
}

type devicesList struct{ databaseFlags }

// Run lists the devices.
func (c *devicesList) Run(ctx context.Context, t *terminal) error {
	return c.registry(ctx, func(r *devices.Registry) error {
		list, err := r.List(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(t.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(table, "DEVICE\tLOGIN\tCREATED\tHEARD OF")
		for _, d := range list {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", d.Name, login(d), moment(d.Created), moment(d.Seen))
		}
		return table.Flush()
	})
}

func login(d devices.Device) string {
	switch {
	case d.Disabled:
		return "disabled"
	case d.TokenHash == nil:
		return "none"
	}
	return "token"
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

type devicesAdd struct{ deviceFlags }

// Run adds a device and prints its token.
func (c *devicesAdd) Run(ctx context.Context, t *terminal) error {
	return c.registry(ctx, func(r *devices.Registry) error {
		token, err := r.Add(ctx, c.Device)
		return t.showToken(c.Device, token, err)
	})
}

type devicesRotate struct{ deviceFlags }

// Run prints the new token.
func (c *devicesRotate) Run(ctx context.Context, t *terminal) error {
	return c.registry(ctx, func(r *devices.Registry) error {
		token, err := r.Rotate(ctx, c.Device)
		return t.showToken(c.Device, token, err)
	})
}

// showToken prints the token alone on standard output, so that a script can
// take it, and the rest beside it.
func (t *terminal) showToken(device, token string, err error) error {
	if err != nil {
		return err
	}
	t.tell("The token of %s; it cannot be shown again. MQTT: user %s, password the token. HTTP: Authorization: Bearer.", device, device)
	t.printf("%s\n", token)
	return nil
}

type devicesDisable struct{ deviceFlags }

// Run disables the device.
func (c *devicesDisable) Run(ctx context.Context, t *terminal) error {
	return c.registry(ctx, func(r *devices.Registry) error { return r.Disable(ctx, c.Device) })
}

type devicesEnable struct{ deviceFlags }

// Run enables the device.
func (c *devicesEnable) Run(ctx context.Context, t *terminal) error {
	return c.registry(ctx, func(r *devices.Registry) error { return r.Enable(ctx, c.Device) })
}

// Run prints a token.
func (c *tokenCommand) Run(t *terminal) error {
	if c.TTL <= 0 || c.TTL > 720*time.Hour {
		return usage("--ttl: %v is not between 1s and 720h", c.TTL)
	}
	key, err := devices.LoadTokenKey((&accessFlags{TokenKey: c.TokenKey}).keyFile(&c.dataFlag))
	if err != nil {
		return fmt.Errorf("--token-key: %w", err)
	}
	t.printf("%s\n", key.Issue(c.For, c.TTL, time.Now()))
	return nil
}
