package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// Log is a topic as [Verify] reads it; stream.Topic is one.
type Log interface {
	// Bounds are the offsets of the oldest record of each partition, and of the next.
	Bounds(ctx context.Context) (first, next telemetry.Cursor, err error)
	// Follow calls handle with the records from a cursor up to another.
	Follow(ctx context.Context, from, to telemetry.Cursor, handle func([]telemetry.Record) error) error
}

// Topic is one of the two topics.
type Topic struct {
	Name string // for the report
	Log  Log
	Dead bool // the dead topic: every record of it is a dead letter
}

// Progress is how far [Verify] is.
type Progress struct {
	Topic       string
	Done, Total int64 // records
}

// Report is what [Verify] found.
type Report struct {
	Partitions []PartitionReport
	Examples   []string // of what is wrong, at most 20
}

// PartitionReport compares one partition of the log with the database.
type PartitionReport struct {
	Topic     string
	Partition int32
	First     int64 // offset of the first record the sink read; -1: none
	Next      int64 // offset behind the last record stored; -1: none
	Behind    int64 // records in the log that the sink has not stored yet: not an error
	// The fence's counts. Records = Stored + Duplicates + Dead, or it is wrong.
	Records, Stored, Duplicates, Dead int64
	Missed                            int64 // records the log lost before they were stored
	Letters                           int64 // rows of dead_letters; must be Dead
	Checked                           int64 // records still in the log that were compared one by one
	Missing                           int64 // values, or dead letters, that are not in the database
	Unequal                           int64 // values or dead letters that are there and differ, without a dead letter that says so
	Doubled                           int64 // values that stand twice
	Wrong                             []string
}

// OK says whether log and database agree.
func (r *Report) OK() bool {
	for i := range r.Partitions {
		if len(r.Partitions[i].Wrong) > 0 {
			return false
		}
	}
	return true
}

// Verify compares the log with the database: that the counts of each partition
// add up, and that each value of each record that is still in the log, up to
// where the sink is, stands in the database, once, or the record is a dead
// letter. It may run beside a sink: what is stored meanwhile is not looked at.
// progress may be nil. An error means that it could not be found out.
func Verify(ctx context.Context, db *DB, topics []Topic, progress func(Progress)) (*Report, error) {
	if err := db.migrated(); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	report := &Report{}
	for _, topic := range topics {
		v := &verifier{db: db, topic: topic, report: report, progress: progress}
		if err := v.run(ctx); err != nil {
			return nil, fmt.Errorf("verify: %s: %w", topic.Name, err)
		}
	}
	return report, nil
}

type verifier struct {
	db       *DB
	topic    Topic
	report   *Report
	progress func(Progress)
	log      uint64
	parts    map[int32]*PartitionReport
	done     int64
	total    int64
	reading  telemetry.Reading
}

func (v *verifier) run(ctx context.Context) error {
	first, next, err := v.topic.Log.Bounds(ctx)
	if err != nil {
		return err
	}
	v.log = next.Log
	if err := v.load(ctx, len(next.Next)); err != nil {
		return err
	}
	from, to := first.Clone(), first.Clone()
	for i, oldest := range first.Next {
		p := v.parts[int32(i)]
		from.Next[i] = max(oldest, p.First)
		to.Next[i] = max(from.Next[i], min(p.Next, next.Next[i]))
		p.Behind = next.Next[i] - max(p.Next, oldest)
		if p.Next > next.Next[i] {
			p.Behind = 0
			p.wrong("the database is at offset %d, but the log ends at %d: it lost acknowledged records", p.Next, next.Next[i])
		}
		v.total += to.Next[i] - from.Next[i]
	}
	if v.total > 0 {
		if err := v.topic.Log.Follow(ctx, from, to, func(records []telemetry.Record) error { return v.check(ctx, records) }); err != nil {
			return err
		}
	}
	v.progress(Progress{v.topic.Name, v.done, v.total})
	for i := range len(next.Next) {
		p := v.parts[int32(i)]
		p.addUp(to.Next[i] - from.Next[i])
		v.report.Partitions = append(v.report.Partitions, *p)
	}
	return nil
}

// load reads the fence and counts the dead letters, in one snapshot.
func (v *verifier) load(ctx context.Context, partitions int) error {
	v.parts = make(map[int32]*PartitionReport, partitions)
	for i := range int32(partitions) {
		v.parts[i] = &PartitionReport{Topic: v.topic.Name, Partition: i, First: -1, Next: -1}
	}
	rows, _ := v.db.pool.Query(ctx, `
		select o."partition", o.first_offset, o.next_offset, o.records, o.stored, o.duplicates, o.dead, o.missed,
			(select count(*) from dead_letters d where d.log_id = o.log_id and d."partition" = o."partition")
		from log_offsets o where o.log_id = $1`, int64(v.log))
	var p PartitionReport
	_, err := pgx.ForEachRow(rows, []any{
		&p.Partition, &p.First, &p.Next, &p.Records, &p.Stored, &p.Duplicates, &p.Dead, &p.Missed, &p.Letters,
	}, func() error {
		if v.parts[p.Partition] == nil {
			return fmt.Errorf("the database knows partition %d, the log does not: were partitions removed?", p.Partition)
		}
		p.Topic = v.topic.Name
		one := p
		v.parts[p.Partition] = &one
		return nil
	})
	return v.db.explain(err)
}

func (p *PartitionReport) wrong(format string, args ...any) {
	p.Wrong = append(p.Wrong, fmt.Sprintf(format, args...))
}

// addUp says what does not.
func (p *PartitionReport) addUp(inLog int64) {
	if sum := p.Stored + p.Duplicates + p.Dead; sum != p.Records {
		p.wrong("stored %d + duplicates %d + dead %d = %d, but %d records were read", p.Stored, p.Duplicates, p.Dead, sum, p.Records)
	}
	if span := p.Next - p.First; p.First >= 0 && p.Records+p.Missed != span {
		p.wrong("offsets %d to %d are %d records, but %d were read and %d missed", p.First, p.Next, span, p.Records, p.Missed)
	}
	if p.Letters != p.Dead {
		p.wrong("%d dead letters were counted, but %d stand in dead_letters", p.Dead, p.Letters)
	}
	if p.Checked != inLog {
		p.wrong("the log has %d of the records that were stored, but gave %d", inLog, p.Checked)
	}
	for _, found := range []struct {
		n    int64
		what string
	}{{p.Missing, "missing"}, {p.Unequal, "unequal"}, {p.Doubled, "doubled"}} {
		if found.n > 0 {
			p.wrong("%d %s", found.n, found.what)
		}
	}
	if p.Missed > 0 {
		p.wrong("%d records were lost by the log before they were stored", p.Missed)
	}
}

func (v *verifier) example(r *telemetry.Record, format string, args ...any) {
	if len(v.report.Examples) < 20 {
		v.report.Examples = append(v.report.Examples,
			fmt.Sprintf("%s %d/%d: ", v.topic.Name, r.Partition, r.Offset)+fmt.Sprintf(format, args...))
	}
}
