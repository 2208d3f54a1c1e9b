// Package millrace_test guards the repository as a whole: who may import whom,
// and how the code reads. Each rule says why it is there.
package millrace_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "millrace"

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string // of what is built; tests may import what they test with
}

// row is what ARCHITECTURE.md says of a package.
type row struct {
	ours, others []string // "everything" allows all
}

// The table is the map that newcomers use; it stays true because this fails.
func TestPackagesImportWhatTheArchitectureSays(t *testing.T) {
	table := architecture(t)
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if name == module {
			continue // these tests
		}
		seen[name] = true
		allowed, ok := table[name]
		if !ok {
			t.Errorf("%s is not in the table of ARCHITECTURE.md: add a row that says what it is for", name)
			continue
		}
		for _, path := range p.Imports {
			checkImport(t, name, path, allowed)
		}
	}
	for name := range table {
		if !seen[name] {
			t.Errorf("ARCHITECTURE.md has a row for %s, and there is no such package", name)
		}
	}
}

func checkImport(t *testing.T, name, path string, allowed row) {
	t.Helper()
	ours, isOurs := strings.CutPrefix(path, module+"/")
	first, _, _ := strings.Cut(path, "/")
	switch {
	case isOurs && !slices.Contains(allowed.ours, "everything") && !slices.Contains(allowed.ours, ours):
		t.Errorf("%s imports our %s: siblings do not know each other; let cmd introduce them through an interface of %s",
			name, ours, name)
	case !isOurs && strings.Contains(first, ".") && !slices.Contains(allowed.others, "everything") && !covers(allowed.others, path):
		t.Errorf("%s imports %s: every dependency is one more to trust; if it is worth that, say so in its row and in docs/adr", name, path)
	}
}

func covers(modules []string, path string) bool {
	return slices.ContainsFunc(modules, func(m string) bool { return path == m || strings.HasPrefix(path, m+"/") })
}

// architecture reads the rows of the table, which begin with "| `".
func architecture(t *testing.T) map[string]row {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Packages\n")
	if !found {
		t.Fatal("ARCHITECTURE.md has no section 'Packages'")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[string]row{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) == 6 && strings.Contains(cells[1], "`") {
			table[names(cells[1])[0]] = row{ours: names(cells[3]), others: names(cells[4])}
		}
	}
	if len(table) < 10 {
		t.Fatalf("the table of ARCHITECTURE.md has %d rows that can be read", len(table))
	}
	return table
}

// names are a cell's entries without their quotes; "–" is none.
func names(cell string) []string {
	var all []string
	for entry := range strings.SplitSeq(cell, ",") {
		if entry = strings.Trim(entry, " `"); entry != "–" {
			all = append(all, entry)
		}
	}
	return all
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	var all []listed
	for {
		var p listed
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
