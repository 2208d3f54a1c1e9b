package migrations_test

import (
	"testing"

	"millrace/migrations"
)

// TestOf: both layouts have the same numbers, without a hole (Of checks that),
// and the same names for them.
func TestOf(t *testing.T) {
	plain, err := migrations.Of("plain")
	if err != nil || len(plain) == 0 {
		t.Fatalf("%d steps, %v", len(plain), err)
	}
	timescale, err := migrations.Of("timescale")
	if err != nil || len(timescale) != len(plain) {
		t.Fatalf("%d steps, plain has %d, %v", len(timescale), len(plain), err)
	}
	for i := range plain {
		if plain[i].Name != timescale[i].Name || plain[i].SQL == "" {
			t.Errorf("%s and %s", plain[i].Name, timescale[i].Name)
		}
	}
	if _, err := migrations.Of("oracle"); err == nil {
		t.Error("a layout there is not has no error")
	}
}
