package storage

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/jackc/pgx/v5"

	"millrace/telemetry"
)

// errPage ends a walk when the page is full.
var errPage = errors.New("the page is full")

// readings answers GET /v1/readings: readings in their canonical form, in order
// of (time, device), or against it with order=desc. As CSV, a row a value, like
// the SQL view. With limit, or as a JSON array, it is a page; else all there is.
func (q *query) readings(out *output, r *http.Request) error {
	values := r.URL.Query()
	s, err := q.readingsScan(values)
	if err != nil {
		return err
	}
	size, err := limit(values)
	if err != nil {
		return err
	}
	if size == 0 && out.form == formJSON {
		size = defaultPage
	}
	out.header = "time,device,metric,value,text\r\n"
	page := page{out: out, size: size, desc: s.desc}
	err = q.read(r.Context(), func(tx pgx.Tx) error { return q.db.scan(r.Context(), tx, s, page.reading) })
	if errors.Is(err, errPage) {
		out.next(r, page.last.String())
		err = nil
	}
	return err
}

func (q *query) readingsScan(values url.Values) (s scan, err error) {
	if err := known(values, "device", "metric", "where", "bbox", "from", "to", "limit", "order", "cursor", "format"); err != nil {
		return s, err
	}
	if s.filter, err = telemetry.ParseFilter(values); err != nil {
		return s, err
	}
	if s.from, s.to, err = q.span(values); err != nil {
		return s, err
	}
	switch values.Get("order") {
	case "", "asc":
	case "desc":
		s.desc = true
	default:
		return s, &telemetry.BadRequest{Parameter: "order", Detail: "it must be asc or desc"}
	}
	if text := values.Get("cursor"); text != "" {
		if s.after, err = telemetry.ParseCursor(text); err != nil {
			return s, err
		}
		if !s.after.InPast() {
			return s, &telemetry.BadRequest{Parameter: "cursor", Detail: "it is a cursor of a stream: use the Link of the last page"}
		}
	}
	return s, nil
}

// page puts readings out until it is full.
type page struct {
	out  *output
	size int // 0: no end
	desc bool
	last telemetry.Cursor
}

func (p *page) reading(r *telemetry.Reading) error {
	if p.size > 0 && (p.out.items >= p.size || len(p.out.buf) > pageBytes) {
		return errPage
	}
	p.out.item()
	if p.out.form == formCSV {
		p.out.buf = appendCSV(p.out.buf, r)
	} else {
		p.out.buf = r.AppendJSON(p.out.buf)
	}
	p.out.done()
	p.last.Time, p.last.Device = r.Time, r.Device
	if p.size == 0 && len(p.out.buf) >= flushBytes {
		return p.out.flush()
	}
	return nil
}

func appendCSV(dst []byte, r *telemetry.Reading) []byte {
	for i := range r.Metrics {
		m := &r.Metrics[i]
		dst = telemetry.AppendTime(dst, r.Time)
		dst = append(dst, ',')
		dst = append(dst, r.Device...)
		dst = append(dst, ',')
		dst = quoteCSV(dst, m.Name)
		dst = append(dst, ',')
		if m.Value.HasNumber() {
			dst = telemetry.Number(m.Value.Number()).AppendJSON(dst)
		}
		dst = append(dst, ',')
		if m.Value.HasText() {
			dst = quoteCSV(dst, m.Value.Text())
		}
		dst = append(dst, '\r', '\n')
	}
	return dst
}
