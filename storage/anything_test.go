package storage_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"millrace/storage"
	"millrace/telemetry"
)

// model is what must be in the database: the first value said for each place.
type model map[string]telemetry.Value

func (m model) take(r *telemetry.Reading) (fresh, conflict bool) {
	for _, metric := range r.Metrics {
		key := fmt.Sprintf("%s %d %s", r.Device, r.Time.Sub(midnight).Milliseconds(), metric.Name)
		have, ok := m[key]
		switch {
		case !ok:
			m[key] = metric.Value
			fresh = true
		case !have.Equal(metric.Value):
			conflict = true
		}
	}
	return fresh, conflict
}

func (m model) String() string {
	lines := make([]string, 0, len(m))
	for key, v := range m {
		number, text := "-", "-"
		if v.HasNumber() {
			number = string(telemetry.Number(v.Number()).AppendJSON(nil))
		}
		if v.HasText() {
			text = v.Text()
		}
		lines = append(lines, fmt.Sprintf("%s %s %s\n", key, number, text))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// anybody says something: few devices, times and values, so that much of it is
// said twice, late, or differently.
func anybody(rnd *rand.Rand, partition int32) *telemetry.Reading {
	var line strings.Builder
	fmt.Fprintf(&line, "truck-%d-%d %d", partition, rnd.IntN(3), rnd.IntN(40)*3600)
	for _, metric := range []string{"fuel", "heat", "speed", "state"} {
		switch rnd.IntN(6) {
		case 0:
			fmt.Fprintf(&line, ` %s="%d"`, metric, rnd.IntN(2))
		case 1:
			fmt.Fprintf(&line, " %s=%t", metric, rnd.IntN(2) == 0)
		case 2, 3:
			fmt.Fprintf(&line, " %s=%d", metric, rnd.IntN(2))
		}
	}
	if strings.Count(line.String(), " ") == 1 {
		line.WriteString(" fuel=1")
	}
	return &telemetry.Reading{Device: line.String()}
}

// exerciseAnything delivers a random log with redelivery and restarts, in
// batches of any size: the rows are the model's, each record counts once, and
// verify agrees.
func exerciseAnything(t *testing.T, fresh func(*testing.T) *bundle) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { saysAnything(t, fresh(t), rand.New(rand.NewPCG(seed, 0))) })
	}
}

func saysAnything(t *testing.T, b *bundle, rnd *rand.Rand) {
	const partitions = 3
	b.cfg.BatchRows = 1 + rnd.IntN(40)
	truth := model{}
	var stored, duplicates, dead int64
	var logs [partitions][]telemetry.Record
	for range 400 {
		p := int32(rnd.IntN(partitions))
		r := reading(t, anybody(rnd, p).Device)
		logs[p] = append(logs[p], b.append(p, r))
		switch isNew, conflict := truth.take(r); {
		case conflict:
			dead++
		case isNew:
			stored++
		default:
			duplicates++
		}
	}
	h := b.sink(0, 1, 2)
	var at [partitions]int // as a consumer that does not know what was kept
	for at[0] < len(logs[0]) || at[1] < len(logs[1]) || at[2] < len(logs[2]) {
		if rnd.IntN(8) == 0 {
			h = b.sink(0, 1, 2)
			for p := range at {
				at[p] = max(0, at[p]-rnd.IntN(30)) // the group's commit lags behind
			}
		}
		var batch []telemetry.Record
		for p := range at {
			n := min(rnd.IntN(30), len(logs[p])-at[p])
			batch = append(batch, logs[p][at[p]:at[p]+n]...)
			at[p] += n
		}
		b.handle(h, batch...)
	}
	got := b.query(`select device, (extract(epoch from time - '2026-11-21Z') * 1000)::bigint, metric,
		coalesce(value::text, '-'), coalesce(text, '-') from telemetry`)
	lines := strings.SplitAfter(got, "\n")
	slices.Sort(lines)
	equal(t, "rows", strings.Join(lines, ""), truth.String())
	equal(t, "counts", b.query(`select sum(records)::bigint, sum(stored)::bigint, sum(duplicates)::bigint, sum(dead)::bigint from log_offsets`),
		fmt.Sprintln(stored+duplicates+dead, stored, duplicates, dead))
	report, err := storage.Verify(t.Context(), b.db, []storage.Topic{{Name: "readings", Log: b.log(partitions)}}, nil)
	if err != nil || !report.OK() {
		t.Errorf("verify: %v, %+v", err, report)
	}
}
