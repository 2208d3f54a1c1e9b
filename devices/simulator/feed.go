package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// stream plays the file row by row, as fast as the links take them.
func (p *player) stream(ctx context.Context) error {
	return p.each(ctx, func(device int, _ time.Time, m message) error {
		return p.send(ctx, device, m)
	})
}

// timed is a row that waits for its time.
type timed struct {
	at     time.Time
	device int
	message
}

// clocked plays the rows by the recording's clock. Rows of one time keep the
// file's order, also those of one device.
func (p *player) clocked(ctx context.Context) error {
	var rows []timed
	err := p.each(ctx, func(device int, at time.Time, m message) error {
		if len(rows) == maxPaced {
			return fmt.Errorf("more than %d rows cannot be put in order of time: play at speed max", maxPaced)
		}
		rows = append(rows, timed{at, device, m})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(rows, func(a, b timed) int { return a.at.Compare(b.at) })
	p.paced.Store(int64(len(rows)))
	began := time.Now()
	for _, row := range rows {
		due := time.Duration(float64(row.at.Sub(rows[0].at)) / p.config.Speed)
		if !pause(ctx, time.Until(began.Add(due))) {
			return ctx.Err()
		}
		if err := p.send(ctx, row.device, row.message); err != nil {
			return err
		}
	}
	return nil
}

// send hands a message to its device's link, waiting for room.
func (p *player) send(ctx context.Context, device int, m message) error {
	select {
	case p.links[device%len(p.links)].in <- m:
		p.published.Add(1)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each reads the file and calls yield with each row that can be played; the
// others are counted.
func (p *player) each(ctx context.Context, yield func(device int, at time.Time, m message) error) error {
	file, err := p.open()
	if err != nil {
		return err
	}
	defer file.Close()
	t, err := openTable(file, &p.config, func(n int) { p.bytes.Add(int64(n)) })
	if err != nil {
		return err
	}
	p.converter.table = t
	for ctx.Err() == nil {
		row, line, err := t.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if broken := (*rowError)(nil); err != nil && !errors.As(err, &broken) {
			return fmt.Errorf("behind row %d: %w", p.rows.Load(), err)
		}
		p.rows.Add(1)
		device, at, m := 0, time.Time{}, message{}
		if err == nil {
			device, at, m, err = p.converter.convert(row, p.began)
		}
		if err != nil {
			p.reject(line, err)
			continue
		}
		if err := yield(device, at, m); err != nil {
			return err
		}
	}
	return ctx.Err()
}
