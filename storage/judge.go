package storage

import (
	"bytes"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// letter is what dead_letters has of a record.
type letter struct {
	reason  telemetry.Reason
	payload []byte
}

// check compares some records with what the database has of them.
func (v *verifier) check(ctx context.Context, records []telemetry.Record) error {
	err := v.db.read(ctx, func(tx pgx.Tx) error {
		letters, err := v.letters(ctx, tx, records)
		if err != nil {
			return err
		}
		var claims []claim
		if !v.topic.Dead {
			if claims, err = v.claims(ctx, tx, records); err != nil {
				return err
			}
		}
		for i := range records {
			l, ok := letters[records[i].Position]
			v.judge(&records[i], ok, l, &claims)
		}
		return nil
	})
	v.done += int64(len(records))
	v.progress(Progress{v.topic.Name, v.done, v.total})
	return err
}

// claim is a value that a record says should be in samples.
type claim struct {
	record *telemetry.Record
	metric string
	at     at
	value  telemetry.Value
	have   telemetry.Value
	times  int // how often it is there
}

// claims are the values of the records, with what the database has in their places.
func (v *verifier) claims(ctx context.Context, tx pgx.Tx, records []telemetry.Record) ([]claim, error) {
	var claims []claim
	var devices, metrics []string
	for i := range records {
		r := &v.reading
		if telemetry.ParseReading(records[i].Value, r) != nil {
			*r = telemetry.Reading{}
			continue
		}
		if r.Check(records[i].Received) != nil {
			continue
		}
		for _, m := range r.Metrics {
			claims = append(claims, claim{record: &records[i], metric: m.Name, at: at{time: r.Time.UnixMicro()}, value: m.Value})
			devices, metrics = append(devices, r.Device), append(metrics, m.Name)
		}
	}
	rows, _ := tx.Query(ctx, `
		select k.at - 1, s.id from unnest($1::text[], $2::text[]) with ordinality k(device, metric, at)
		join series s on s.device = k.device and s.metric = k.metric`, devices, metrics)
	var i int64
	var id int32
	if _, err := pgx.ForEachRow(rows, []any{&i, &id}, func() error {
		claims[i].at.id = id
		return nil
	}); err != nil {
		return nil, v.db.explain(err)
	}
	return claims, v.look(ctx, tx, claims)
}

// look fills in what the database has. Days without a table have nothing.
func (v *verifier) look(ctx context.Context, tx pgx.Tx, claims []claim) error {
	days := make(map[day]bool)
	list, err := v.db.slices(ctx, tx)
	if err != nil {
		return err
	}
	for _, s := range list {
		for d := dayOf(s.from.UnixMicro()); d.start().Before(s.to); d++ {
			days[d] = true
		}
	}
	var places []at
	var of []int
	for i := range claims {
		if claims[i].at.id != 0 && days[dayOf(claims[i].at.time)] {
			places, of = append(places, claims[i].at), append(of, i)
		}
	}
	if len(places) == 0 {
		return nil
	}
	return v.db.lookup(ctx, tx, places, func(i int, number *float64, text *string) {
		c := &claims[of[i]]
		c.have = telemetry.Stored(number, text)
		c.times++
	})
}

// letters are the dead letters of the records.
func (v *verifier) letters(ctx context.Context, tx pgx.Tx, records []telemetry.Record) (map[telemetry.Position]letter, error) {
	low, high := make(map[int32]int64), make(map[int32]int64)
	for i := range records {
		p := records[i].Position
		if at, ok := low[p.Partition]; !ok || p.Offset < at {
			low[p.Partition] = p.Offset
		}
		high[p.Partition] = max(high[p.Partition], p.Offset)
	}
	letters := make(map[telemetry.Position]letter)
	for id, from := range low {
		rows, _ := tx.Query(ctx, `
			select "offset", reason, payload from dead_letters
			where log_id = $1 and "partition" = $2 and "offset" between $3 and $4`, int64(v.log), id, from, high[id])
		var offset int64
		var l letter
		if _, err := pgx.ForEachRow(rows, []any{&offset, &l.reason, &l.payload}, func() error {
			letters[telemetry.Position{Partition: id, Offset: offset}] = l
			l.payload = nil
			return nil
		}); err != nil {
			return nil, v.db.explain(err)
		}
	}
	return letters, nil
}

// judge compares one record with its dead letter and its values, which are the
// first of the claims.
func (v *verifier) judge(r *telemetry.Record, dead bool, l letter, claims *[]claim) {
	p := v.parts[r.Partition]
	p.Checked++
	mine := 0
	for mine < len(*claims) && (*claims)[mine].record == r {
		mine++
	}
	values := (*claims)[:mine]
	*claims = (*claims)[mine:]
	if dead && !bytes.Equal(l.payload, r.Value) {
		p.Unequal++
		v.example(r, "its dead letter has other bytes")
	}
	if len(values) == 0 { // of the dead topic, or no reading
		if !dead {
			p.Missing++
			v.example(r, "it is no reading, and no dead letter")
		}
		return
	}
	if dead && l.reason == telemetry.ReasonStore {
		return
	}
	v.values(r, values, dead && l.reason == telemetry.ReasonConflict)
}

func (v *verifier) values(r *telemetry.Record, values []claim, conflict bool) {
	p := v.parts[r.Partition]
	for i := range values {
		c := &values[i]
		switch {
		case c.times == 0:
			p.Missing++
			v.example(r, "%s at %s is not in the database", c.metric, telemetry.AppendTime(nil, time.UnixMicro(c.at.time)))
		case c.times > 1:
			p.Doubled++
			v.example(r, "%s at %s is there twice", c.metric, telemetry.AppendTime(nil, time.UnixMicro(c.at.time)))
		case !c.value.Equal(c.have) && !conflict:
			p.Unequal++
			v.example(r, "%s at %s is %s in the log and %s in the database, and no dead letter says so",
				c.metric, telemetry.AppendTime(nil, time.UnixMicro(c.at.time)), show(c.value), show(c.have))
		}
	}
}
