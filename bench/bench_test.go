package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"millrace/internal/testkit"
)

// rounds is how often each figure is measured; the median stands in the table.
const rounds = 3

// row is one line of the table at the end.
type row struct{ what, figure, beside, want string }

// table collects the rows of all benchmarks.
type table struct {
	mu   sync.Mutex // protects rows
	rows []row
}

func (t *table) add(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.rows {
		if t.rows[i].what == r.what { // a benchmark's first, trial run
			t.rows[i] = r
			return
		}
	}
	t.rows = append(t.rows, r)
}

func (t *table) print() {
	if len(t.rows) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nWHAT\tMILLRACE\tBESIDE IT\tTO REACH")
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.what, r.figure, r.beside, r.want)
	}
	_ = w.Flush()
}

var results table

func TestMain(m *testing.M) {
	code := m.Run()
	results.print()
	testkit.Stop()
	os.Exit(code)
}

func median(figures []float64) float64 {
	slices.Sort(figures)
	return figures[len(figures)/2]
}

// thousands writes 123456 as 123,456.
func thousands(f float64) string {
	digits := fmt.Sprintf("%.0f", f)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
