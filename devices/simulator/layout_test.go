package simulator

import (
	"testing"
	"time"

	"millrace/telemetry"
)

func TestDetector(t *testing.T) {
	f := func(want string, cells ...string) {
		t.Helper()
		d := newDetector(time.UTC)
		for _, cell := range cells {
			d.look(cell)
		}
		got, err := d.choose("time")
		if err != nil {
			got.name = "error"
		}
		if got.name != want {
			t.Errorf("%q is %s (%v), want %s", cells, got.name, err, want)
		}
	}
	f("error")
	f("error", "", "x")
	f("rfc3339", "2021-03-20T00:22:00Z", "2021-03-20T00:22:00.123+01:00")
	f("rfc3339", "x", "2021-03-20T00:22:00Z", "2021-03-20T00:23:00Z")
	f("2006-01-02 15:04:05", "2021-03-20 00:22:00", "2021-03-20 00:22:00.5")
	f("2006-01-02 15:04:05Z07", "2021-03-20 00:22:00+00")
	f("2006-01-02T15:04", "2021-03-20T00:22")
	f("unix", "1616199720", "1616199720.25")
	f("unix-ms", "1616199720123")
	f("unix-us", "1616199720123456")
	f("unix-ns", "1616199720123456789")
	f("02/01/2006 15:04", "01/03/2021 00:22", "20/03/2021 00:22")
	f("01/02/2006 15:04", "03/01/2021 00:22", "03/20/2021 00:22")
	f("01/02/2006 15:04:05", "03/20/2021 00:22:01")
	f("error", "01/03/2021 00:22", "02/03/2021 00:22")
	f("error", "13/03/2021 00:22", "03/13/2021 00:22")
	f("02.01.2006 15:04", "01.03.2021 00:22")
	f("error", "42", "43")
}

func TestNamedLayout(t *testing.T) {
	at := time.Date(2021, 3, 4, 15, 16, 17, 0, time.UTC)
	f := func(name, text string) {
		t.Helper()
		l, err := namedLayout(name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			return
		}
		if got, err := l.parse(text, time.UTC); err != nil || !got.Truncate(time.Second).Equal(at) {
			t.Errorf("%q reads %q as %s, %v", name, text, got, err)
		}
	}
	f("RFC3339", "2021-03-04T15:16:17Z")
	f("unix", "1614870977")
	f("unix", "1614870977.5")
	f("unix-ms", "1614870977000")
	f("unix-ns", "1614870977000000001")
	f("02/01/2006 15:04:05", "04/03/2021 15:16:17")
	f("Jan 2 2006 3:04:05PM", "Mar 4 2021 3:16:17PM")
	for _, wrong := range []string{"dd/mm/yyyy", "x", "15:04:05", "2006"} {
		if _, err := namedLayout(wrong); err == nil {
			t.Errorf("%q is taken as a layout", wrong)
		}
	}
}

func TestTimesOfAZone(t *testing.T) {
	l, err := namedLayout("2006-01-02 15:04:05")
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.parse("2021-03-04 15:16:17", time.FixedZone("east", 3600))
	if err != nil || got.UTC().Hour() != 14 {
		t.Errorf("time is %s, %v", got, err)
	}
}

func TestDeviceName(t *testing.T) {
	f := func(said, want string) {
		t.Helper()
		if got := deviceName(said); got != want {
			t.Errorf("%q is %q, want %q", said, got, want)
		}
	}
	f("NIA North", "NIA-North")
	f("a", "a")
	f("A.b_c:d-9", "A.b_c:d-9")
	f("  a  b  ", "a-b")
	f("größe", "gr-e")
	f("a/-/b", "a---b")
	f("-a-", "-a-")
	f("///", "")
	f("", "")
}

// Whatever a file says, what comes out is a device name or nothing, and saying
// that name gives it back.
func FuzzDeviceName(f *testing.F) {
	f.Add("NIA North")
	f.Add("größe")
	f.Fuzz(func(t *testing.T, said string) {
		name := deviceName(said)
		if name == "" {
			return
		}
		if len(name) <= telemetry.MaxDeviceName && telemetry.CheckDevice(name) != nil {
			t.Errorf("%q becomes %q, which is no device name", said, name)
		}
		if deviceName(name) != name {
			t.Errorf("%q becomes %q, and that becomes %q", said, name, deviceName(name))
		}
	})
}

// Whatever a cell says, looking at it neither fails nor takes a layout for it
// that then does not read it.
func FuzzDetector(f *testing.F) {
	f.Add("2021-03-20 00:22:00")
	f.Add("1616199720.5")
	f.Fuzz(func(t *testing.T, cell string) {
		d := newDetector(time.UTC)
		d.look(cell)
		if l, err := d.choose("time"); err == nil {
			if _, err := l.parse(cell, time.UTC); err != nil {
				t.Errorf("%q was taken for %s: %v", cell, l.name, err)
			}
		}
	})
}
