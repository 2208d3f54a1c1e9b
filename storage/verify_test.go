package storage_test

import (
	"strings"
	"testing"

	"millrace/storage"
	"millrace/telemetry"
)

// exerciseVerify: it agrees with what a sink did, and with nothing else.
func exerciseVerify(t *testing.T, fresh func(*testing.T) *bundle) {
	for _, c := range []struct {
		name, damage string
		wants        string // in what is wrong
	}{
		{"untouched", ``, ""},
		{"a value deleted", `delete from samples where value = 3`, "2 missing"},
		{"a value changed", `update samples set value = 4 where value = 3`, "1 unequal"},
		{"a value doubled", `insert into samples select * from samples where value = 3`, "2 doubled"},
		{"a text changed", `update samples set text = 'off' where text = 'on'`, "1 unequal"},
		{"a conflict deleted", `delete from dead_letters where reason = 'conflict'`, "1 unequal"},
		{"a malformed one deleted", `delete from dead_letters where reason = 'malformed'`, "1 missing"},
		{"counts changed", `update log_offsets set stored = stored + 1`, "but 5 records were read"},
		{"offset changed", `update log_offsets set next_offset = next_offset + 1`, "it lost acknowledged records"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := fresh(t)
			b.handle(
				b.sink(0),
				b.say(0, "truck-1 1 speed=1"),
				b.say(0, `truck-1 2 speed=3 state="on"`),
				b.say(0, "truck-1 2 speed=2"),
				b.say(0, "truck-1 1 speed=1"),
				b.raw(0, telemetry.Entry{Device: "truck-1", Value: []byte("?"), Received: midnight}),
			)
			if c.damage != "" {
				b.exec(c.damage)
			}
			var last storage.Progress
			report, err := storage.Verify(t.Context(), b.db, []storage.Topic{{Name: "readings", Log: b.log(2)}},
				func(p storage.Progress) { last = p })
			if err != nil {
				t.Fatal(err)
			}
			wrong := strings.Join(append(report.Partitions[0].Wrong, report.Partitions[1].Wrong...), "; ")
			if report.OK() != (c.wants == "") || !strings.Contains(wrong, c.wants) {
				t.Errorf("wrong: %q, examples %q; want %q", wrong, report.Examples, c.wants)
			}
			if last.Done != 5 || last.Total != 5 {
				t.Errorf("progress ended with %+v", last)
			}
		})
	}
}

// TestVerifyBehind: what the sink has not read yet is told, and not wrong; what
// the log dropped before it was read is wrong.
func TestVerifyBehind(t *testing.T) {
	t.Parallel()
	b := plain(t)
	h := b.sink(0)
	b.handle(h, b.say(0, "truck-1 1 speed=1"))
	b.say(0, "truck-1 2 speed=1")
	check := func() storage.PartitionReport {
		log := b.log(1)
		report, err := storage.Verify(t.Context(), b.db, []storage.Topic{{Name: "readings", Log: log}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return report.Partitions[0]
	}
	if p := check(); p.Behind != 1 || p.Checked != 1 || len(p.Wrong) != 0 {
		t.Errorf("%+v", p)
	}
	b.handle(h, b.say(0, "truck-1 3 speed=1"))
	if p := check(); p.Missed != 1 || len(p.Wrong) == 0 {
		t.Errorf("%+v", p)
	}
}
