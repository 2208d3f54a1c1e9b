// Package migrations holds the SQL files that make Millrace's tables, numbered
// and embedded; nothing else. Package storage runs them.
//
//	shared/001…  ─┐
//	plain/002…    ├─▶ Of("plain")      001 002 003 004
//	timescale/002…┘   Of("timescale")  001 002 003 004
//
// Its invariant: a number stands either once in shared, or once in each layout,
// and the numbers have no hole; so one version table serves both layouts, and
// version N means the same names and meanings in each. A file that was released
// is never changed: what changes is a new number, in both layouts where it must.
package migrations

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed shared/*.sql plain/*.sql timescale/*.sql
var files embed.FS

// Migration is one step.
type Migration struct {
	Number int    // 1, 2, 3, …
	Name   string // the file's, such as 002_samples.sql
	SQL    string
}

// Of is the steps of a layout, "plain" or "timescale", in order. The error says
// which layout there is not, or which number is missing or stands twice.
func Of(layout string) ([]Migration, error) {
	var steps []Migration
	for _, folder := range []string{"shared", layout} {
		some, err := read(folder)
		if err != nil {
			return nil, fmt.Errorf("migrations: layout %q: %w", layout, err)
		}
		steps = append(steps, some...)
	}
	slices.SortFunc(steps, func(a, b Migration) int { return cmp.Compare(a.Number, b.Number) })
	for i, step := range steps {
		if step.Number != i+1 {
			return nil, fmt.Errorf("migrations: layout %q: %s stands where number %d is due", layout, step.Name, i+1)
		}
	}
	return steps, nil
}

func read(folder string) ([]Migration, error) {
	entries, err := fs.ReadDir(files, folder)
	if err != nil {
		return nil, err
	}
	steps := make([]Migration, 0, len(entries))
	for _, entry := range entries {
		digits, _, _ := strings.Cut(entry.Name(), "_")
		number, err := strconv.Atoi(digits)
		if err != nil {
			return nil, fmt.Errorf("%s does not begin with a number", entry.Name())
		}
		sql, err := fs.ReadFile(files, path.Join(folder, entry.Name()))
		if err != nil {
			return nil, err
		}
		steps = append(steps, Migration{Number: number, Name: entry.Name(), SQL: string(sql)})
	}
	return steps, nil
}
