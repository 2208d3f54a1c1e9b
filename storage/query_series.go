package storage

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// series answers GET /v1/series. With any of metric, bucket, from, to: the
// rollups of the series that match, in order of (device, metric, bucket). With
// none of these: which series there are.
func (q *query) series(out *output, r *http.Request) error {
	values := r.URL.Query()
	if err := known(values, "device", "metric", "from", "to", "bucket", "limit", "cursor", "format"); err != nil {
		return err
	}
	filter, err := telemetry.ParseFilter(values)
	if err != nil {
		return err
	}
	if values.Has("metric") || values.Has("bucket") || values.Has("from") || values.Has("to") {
		return q.rollups(out, r, filter)
	}
	return q.seriesList(out, r)
}

// rollup is what is asked of the rollups.
type rollup struct {
	view     string
	from, to time.Time
}

// bucketOf chooses the rollup: auto is the finest that gives at most some 1,500
// points a series.
func (q *query) bucketOf(values url.Values) (b rollup, err error) {
	if b.from, b.to, err = q.span(values); err != nil {
		return b, err
	}
	if b.to.IsZero() {
		b.to = q.cfg.Now().Add(telemetry.MaxAhead)
	}
	if b.from.IsZero() {
		b.from = b.to.Add(-24*time.Hour - telemetry.MaxAhead)
	}
	switch bucket := values.Get("bucket"); bucket {
	case "1m", "1h", "1d":
		b.view = "telemetry_" + bucket
	case "", "auto":
		switch span := b.to.Sub(b.from); {
		case span <= 25*time.Hour:
			b.view = "telemetry_1m"
		case span <= 62*24*time.Hour:
			b.view = "telemetry_1h"
		default:
			b.view = "telemetry_1d"
		}
	default:
		return b, &telemetry.BadRequest{Parameter: "bucket", Detail: "it must be 1m, 1h, 1d or auto"}
	}
	return b, nil
}

func (q *query) rollups(out *output, r *http.Request, f telemetry.Filter) error {
	b, err := q.bucketOf(r.URL.Query())
	if err != nil {
		return err
	}
	out.header = "bucket,device,metric,count,sum,min,max,first,last,avg\r\n"
	exact, like := globs(f.Devices)
	return q.read(r.Context(), func(tx pgx.Tx) error {
		rows, _ := tx.Query(r.Context(), `
			select bucket, device, metric, count, sum, min, max, first, last, avg from `+b.view+`
			where ($1 or device = any($2::text[]) or device like any($3::text[])) and ($4 or metric = any($5::text[]))
				and bucket >= $6 and bucket < $7
			order by device, metric, bucket limit $8`,
			len(f.Devices) == 0, exact, like, len(f.Metrics) == 0, needed(f), b.from, b.to, maxBuckets+1)
		var bucket time.Time
		var n name
		var count int64
		var f [6]*float64
		_, err := pgx.ForEachRow(rows, []any{&bucket, &n.device, &n.metric, &count, &f[0], &f[1], &f[2], &f[3], &f[4], &f[5]}, func() error {
			if out.items == maxBuckets {
				return &telemetry.BadRequest{Parameter: "bucket", Detail: fmt.Sprintf("this is more than %d buckets: ask for a larger bucket, a shorter time or fewer devices", maxBuckets)}
			}
			out.item()
			out.bucket(bucket, n, count, f)
			out.done()
			return nil
		})
		return q.answered(err)
	})
}

// answered explains errors of the database and leaves ours as they are.
func (q *query) answered(err error) error {
	if telemetry.ProblemOf(err).Status < 500 {
		return err
	}
	return q.db.explain(err)
}

// aggregates are the columns of a rollup behind count.
var aggregates = [...]string{"sum", "min", "max", "first", "last", "avg"}

func (o *output) bucket(bucket time.Time, n name, count int64, f [6]*float64) {
	if o.form == formCSV {
		o.buf = append(telemetry.AppendTime(o.buf, bucket), ',')
		o.buf = append(append(o.buf, n.device...), ',')
		o.buf = append(quoteCSV(o.buf, n.metric), ',')
		o.buf = appendInt(o.buf, count)
		for i := range f {
			o.buf = appendFloat(append(o.buf, ','), f[i], "")
		}
		o.buf = append(o.buf, '\r', '\n')
		return
	}
	o.buf = append(o.buf, `{"bucket":"`...)
	o.buf = telemetry.AppendTime(o.buf, bucket)
	o.buf = append(o.buf, `","device":"`...)
	o.buf = append(o.buf, n.device...)
	o.buf = append(o.buf, `","metric":`...)
	o.buf = quoteJSON(o.buf, n.metric)
	o.buf = append(o.buf, `,"count":`...)
	o.buf = appendInt(o.buf, count)
	for i, name := range aggregates {
		o.buf = append(append(append(o.buf, `,"`...), name...), `":`...)
		o.buf = appendFloat(o.buf, f[i], "null")
	}
	o.buf = append(o.buf, '}')
}

func (q *query) seriesList(out *output, r *http.Request) error {
	out.header = "device,metric\r\n"
	return q.listing(out, r, `
		select n.device, n.metric from series n
		where ($1 or n.device = any($2::text[]) or n.device like any($3::text[])) and n.device || ' ' || n.metric > $4
		order by n.device || ' ' || n.metric limit $5`,
		func(row pgx.CollectableRow) (string, error) {
			var n name
			if err := row.Scan(&n.device, &n.metric); err != nil {
				return "", err
			}
			if out.form == formCSV {
				out.buf = append(append(out.buf, n.device...), ',')
				out.buf = append(quoteCSV(out.buf, n.metric), '\r', '\n')
			} else {
				out.buf = append(append(append(out.buf, `{"device":"`...), n.device...), `","metric":`...)
				out.buf = append(quoteJSON(out.buf, n.metric), '}')
			}
			return n.device + " " + n.metric, nil
		})
}

// listing answers a page of a list whose rows come in order of a text, which is
// the cursor: one answers it for each row that it puts out.
func (q *query) listing(out *output, r *http.Request, sql string, one func(pgx.CollectableRow) (string, error)) error {
	f, err := telemetry.ParseFilter(r.URL.Query())
	if err != nil {
		return err
	}
	size, err := limit(r.URL.Query())
	if err != nil {
		return err
	}
	if size == 0 {
		size = defaultPage
	}
	exact, like := globs(f.Devices)
	last := r.URL.Query().Get("cursor")
	err = q.read(r.Context(), func(tx pgx.Tx) error {
		rows, _ := tx.Query(r.Context(), sql, len(f.Devices) == 0, exact, like, clean(last), size+1)
		_, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
			if out.items == size {
				return struct{}{}, errPage
			}
			out.item()
			var err error
			last, err = one(row)
			out.done()
			return struct{}{}, err
		})
		if errors.Is(err, errPage) {
			out.next(r, last)
			return nil
		}
		return q.answered(err)
	})
	return err
}

// devices answers GET /v1/devices: every device that was added or ever spoke,
// in byte order of the names, with when it was made and last heard of.
func (q *query) devices(out *output, r *http.Request) error {
	values := r.URL.Query()
	if err := known(values, "device", "limit", "cursor", "format"); err != nil {
		return err
	}
	out.header = "device,created,seen,disabled,metrics\r\n"
	return q.listing(out, r, `
		select name, created, seen, disabled, (select count(*) from series s where s.device = d.name)
		from devices d
		where ($1 or name = any($2::text[]) or name like any($3::text[])) and name > $4
		order by name limit $5`, out.device)
}

// device puts one device out.
func (o *output) device(row pgx.CollectableRow) (string, error) {
	var name string
	var created time.Time
	var seen *time.Time
	var disabled bool
	var metrics int64
	if err := row.Scan(&name, &created, &seen, &disabled, &metrics); err != nil {
		return "", err
	}
	if o.form == formCSV {
		o.buf = telemetry.AppendTime(append(append(o.buf, name...), ','), created)
		o.buf = append(o.buf, ',')
		if seen != nil {
			o.buf = telemetry.AppendTime(o.buf, *seen)
		}
		o.buf = fmt.Appendf(o.buf, ",%t,%d\r\n", disabled, metrics)
		return name, nil
	}
	o.buf = append(append(append(o.buf, `{"device":"`...), name...), `","created":"`...)
	o.buf = append(telemetry.AppendTime(o.buf, created), `","seen":`...)
	if seen == nil {
		o.buf = append(o.buf, "null"...)
	} else {
		o.buf = append(telemetry.AppendTime(append(o.buf, '"'), *seen), '"')
	}
	o.buf = fmt.Appendf(o.buf, `,"disabled":%t,"metrics":%d}`, disabled, metrics)
	return name, nil
}
