package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"

	"millrace/migrations"
)

// versionTable is tern's; it holds the number of the last migration that ran.
const versionTable = "schema_version"

// MigrateOptions is how to migrate. The zero value chooses by itself.
type MigrateOptions struct {
	// Layout of a database that has none yet; "" is [LayoutAuto]. For one that
	// has, another layout is an error: its values would have to be moved.
	Layout Layout
}

// Migrate brings the database to this program's schema. progress (may be nil) is
// called with one line for each thing that is done; when there is nothing to do,
// it is not called. Several processes may call it at once: one does the work,
// the others wait.
func Migrate(ctx context.Context, db *DB, opts MigrateOptions, progress func(string)) error {
	if progress == nil {
		progress = func(string) {}
	}
	layout, err := db.chooseLayout(ctx, opts.Layout, progress)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	steps, err := migrations.Of(string(layout))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := db.run(ctx, steps, progress); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := db.readLayout(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if got := db.Layout(); got != layout { // another process was faster, with another wish
		return fmt.Errorf("migrate: the database has layout %s, not %s", got, layout)
	}
	return nil
}

func (db *DB) run(ctx context.Context, steps []migrations.Migration, progress func(string)) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return db.explain(err)
	}
	defer conn.Release()
	// tern resets the session's settings behind each step. A schema that the
	// session was given otherwise than by its role or URL would be forgotten.
	var schema, path string
	if err := conn.QueryRow(ctx, `select current_schema, current_setting('search_path')`).Scan(&schema, &path); err != nil {
		return db.explain(err)
	}
	restore := `select set_config('search_path', ` + quote(path) + `, false);`
	tern, err := migrate.NewMigrator(ctx, conn.Conn(), schema+"."+versionTable)
	if err != nil {
		return db.explain(err)
	}
	for _, step := range steps {
		tern.AppendMigration(step.Name, restore+"\n"+step.SQL, "")
	}
	tern.OnStart = func(_ int32, name, _, _ string) { progress(name) }
	err = tern.Migrate(ctx)
	if _, failed := conn.Exec(ctx, restore); err == nil {
		err = failed
	}
	var version migrate.BadVersionError
	if errors.As(err, &version) {
		return fmt.Errorf("postgres %s: the database was migrated by a newer millrace (%w): use that one", db.where, err)
	}
	return db.explain(err)
}

// quote is text as a literal of SQL.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// chooseLayout is the database's own layout, else the wished one, else the best
// the server can do.
func (db *DB) chooseLayout(ctx context.Context, wish Layout, progress func(string)) (Layout, error) {
	if err := db.readLayout(ctx); err != nil {
		return "", err
	}
	auto := wish == "" || wish == LayoutAuto
	has := db.Layout()
	switch {
	case !auto && wish != LayoutPlain && wish != LayoutTimescale:
		return "", fmt.Errorf("layout %q is not one: use auto, timescale or plain", wish)
	case has != "" && !auto && has != wish:
		return "", fmt.Errorf("the database has layout %s, not %s: leave the layout on auto, or migrate an empty database", has, wish)
	case has != "":
		return has, nil
	case wish == LayoutPlain:
		return wish, nil
	}
	missing, err := db.lacksTimescale(ctx)
	switch {
	case err != nil:
		return "", err
	case missing == "":
		return LayoutTimescale, nil
	case !auto:
		return "", fmt.Errorf("layout timescale: %s", missing)
	}
	progress("layout plain: " + missing)
	return LayoutPlain, nil
}

// lacksTimescale says what the layout timescale misses on the server; "": nothing.
func (db *DB) lacksTimescale(ctx context.Context) (string, error) {
	var available bool
	err := db.pool.QueryRow(ctx, `select exists (select from pg_available_extensions where name = 'timescaledb')`).Scan(&available)
	if err != nil {
		return "", db.explain(err)
	}
	if !available {
		return "the server has no TimescaleDB", nil
	}
	if refused := db.createExtension(ctx); refused != "" {
		return "TimescaleDB is installed, but create extension says: " + refused, nil
	}
	var modern bool
	var license string
	err = db.pool.QueryRow(ctx, `
		select (string_to_array(split_part(extversion, '-', 1), '.'))[1:2]::int[] >= array[2, 18],
			coalesce(current_setting('timescaledb.license', true), '')
		from pg_extension where extname = 'timescaledb'`).Scan(&modern, &license)
	switch {
	case err != nil:
		return "", db.explain(err)
	case !modern:
		return "TimescaleDB is older than 2.18: update it", nil
	case license != "timescale":
		return "TimescaleDB runs without its community features (timescaledb.license = " + license + ")", nil
	}
	return "", nil
}

// createExtension answers the server's refusal. It uses up its connection: where
// the library was not preloaded, the server ends the session with the answer.
func (db *DB) createExtension(ctx context.Context) string {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return err.Error()
	}
	defer conn.Release()
	var there bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_extension where extname = 'timescaledb')`).Scan(&there); err == nil && there {
		return ""
	}
	_, err = conn.Exec(ctx, `create extension if not exists timescaledb`, pgx.QueryExecModeSimpleProtocol)
	var answer *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &answer):
		return answer.Message
	}
	return err.Error()
}
