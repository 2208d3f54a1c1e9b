package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"millrace/telemetry"
)

// errSilent is an answer of 408.
var errSilent = errors.New("no byte of the body came in time")

// take reads the body, lets the gate accept it part by part, and collects what
// became of it. Each part is acknowledged before the next is read: a client
// that sends faster than the log takes is slowed down by its own connection.
func (h *handler) take(w http.ResponseWriter, r *http.Request, m Message) answer {
	var a answer
	body, err := h.open(w, r)
	if err != nil {
		a.err = err
		return a
	}
	defer body.Close()
	b := &buffer{handler: h}
	defer b.release()
	for a.err == nil {
		part, last, err := h.part(body, b, m.Form.Lines())
		if err != nil {
			a.err = bodyError(err)
			break
		}
		if len(part) > 0 || !m.Form.Lines() {
			m.Payload = part
			h.pass(r.Context(), m, &a)
		}
		if last {
			break
		}
	}
	return a
}

// pass lets the gate accept one part and waits for its outcome. When the client
// goes away it waits no longer; the outcome then finds nobody and is dropped.
func (h *handler) pass(ctx context.Context, m Message, a *answer) {
	outcome := make(chan Outcome, 1)
	h.gate.Accept(ctx, m, func(o Outcome) { outcome <- o })
	late := time.NewTimer(h.limits.Answer)
	defer late.Stop()
	select {
	case o := <-outcome:
		a.add(o, h.gate.limits.Refusals)
	case <-ctx.Done():
		a.err = ctx.Err()
	case <-late.C:
		a.err = fmt.Errorf("%w: the log has not acknowledged within %s", telemetry.ErrUnavailable, h.limits.Answer)
	}
}

// part reads what the gate shall accept next: a document whole, or as many
// whole lines as are there. It is valid until the next call.
func (h *handler) part(body io.Reader, b *buffer, lines bool) (part []byte, last bool, err error) {
	most, what := h.limits.DocumentBytes, "document"
	if lines {
		most, what = h.limits.LineBytes, "line"
	}
	b.drop()
	for {
		if cut := b.cut(lines, h.gate.limits.ItemsPerMessage); cut > 0 {
			return b.pass(cut), false, nil
		}
		if b.ended {
			return b.pass(len(b.bytes)), true, nil
		}
		if len(b.bytes) > most {
			return nil, false, telemetry.Refuse(telemetry.ReasonLimit,
				"a %s is longer than %d bytes: split it, or send NDJSON with shorter lines", what, most)
		}
		if err := b.read(body, most+1); err != nil {
			return nil, false, err
		}
	}
}

// buffer is a request's part of what all requests may hold in memory.
type buffer struct {
	handler *handler
	bytes   []byte // read and not passed on
	passed  int    // of bytes, at its beginning
	ended   bool   // the body has no more
}

const firstRead = 16 << 10

// read reads once, into at most so many bytes in all. It grows when full.
func (b *buffer) read(body io.Reader, most int) error {
	if len(b.bytes) == cap(b.bytes) {
		if err := b.grow(min(max(firstRead, 2*cap(b.bytes)), max(most, firstRead))); err != nil {
			return err
		}
	}
	n, err := body.Read(b.bytes[len(b.bytes):cap(b.bytes)])
	b.bytes = b.bytes[:len(b.bytes)+n]
	if errors.Is(err, io.EOF) {
		b.ended, err = true, nil
	}
	return err
}

func (b *buffer) grow(size int) error {
	more := int64(size - cap(b.bytes))
	if now := b.handler.buffered.Add(more); now > b.handler.limits.BufferedBytes {
		b.handler.buffered.Add(-more)
		return fmt.Errorf("%w: %d bytes of bodies are in memory already", telemetry.ErrOverloaded, now-more)
	}
	grown := make([]byte, len(b.bytes), size)
	copy(grown, b.bytes)
	b.bytes = grown
	return nil
}

func (b *buffer) release() {
	b.handler.buffered.Add(-int64(cap(b.bytes)))
	b.bytes = nil
}

// cut is where whole lines end, of which a message may have only so many; 0 if
// there is none yet.
func (b *buffer) cut(lines bool, items int) int {
	if !lines {
		return 0
	}
	end := bytes.LastIndexByte(b.bytes, '\n') + 1
	if bytes.Count(b.bytes[:end], []byte{'\n'}) <= items {
		return end
	}
	at := 0
	for range items {
		at += bytes.IndexByte(b.bytes[at:], '\n') + 1
	}
	return at
}

func (b *buffer) pass(n int) []byte {
	b.passed = n
	return b.bytes[:n]
}

// drop forgets what was passed on.
func (b *buffer) drop() {
	n := copy(b.bytes, b.bytes[b.passed:])
	b.bytes, b.passed = b.bytes[:n], 0
}

// open is the body as the client meant it: within its limits, decompressed.
func (h *handler) open(w http.ResponseWriter, r *http.Request) (io.ReadCloser, error) {
	sent := &patient{
		from:    http.MaxBytesReader(w, r.Body, h.limits.BodyBytes),
		control: http.NewResponseController(w),
		silence: h.limits.Silence,
	}
	limited := func(from io.Reader) io.Reader { return &expanded{from: from, left: h.limits.ExpandedBytes, most: h.limits.ExpandedBytes} }
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return sent, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(sent)
		if err != nil {
			return nil, bodyError(err)
		}
		return readCloser{limited(z), sent.Close}, nil
	case "zstd":
		z, err := zstd.NewReader(sent, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, bodyError(err)
		}
		return readCloser{limited(z), func() error { z.Close(); return sent.Close() }}, nil
	default:
		return nil, fmt.Errorf("%w: Content-Encoding %.40q is neither gzip nor zstd", errUnsupported, encoding)
	}
}

type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

// patient gives up on a client that sends nothing for a while, so that idle
// bodies cannot collect (CWE-400). While the answer is awaited, it may be silent.
type patient struct {
	from    io.ReadCloser
	control *http.ResponseController
	silence time.Duration
}

func (p *patient) Read(b []byte) (int, error) {
	// Errors are of writers without a connection, in tests and behind wrappers.
	_ = p.control.SetReadDeadline(time.Now().Add(p.silence))
	n, err := p.from.Read(b)
	_ = p.control.SetReadDeadline(time.Time{})
	return n, err
}

func (p *patient) Close() error { return p.from.Close() }

// expanded bounds what a small body can become (CWE-409).
type expanded struct {
	from       io.Reader
	left, most int64
}

func (e *expanded) Read(b []byte) (int, error) {
	n, err := e.from.Read(b)
	if e.left -= int64(n); e.left < 0 {
		return 0, telemetry.Refuse(telemetry.ReasonLimit, "the body is longer than %d bytes when decompressed: split it", e.most)
	}
	return n, err
}

// counter counts the bytes of a body as they came.
type counter struct {
	from io.ReadCloser
	n    int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n += int64(n)
	return n, err
}

func (c *counter) Close() error { return c.from.Close() }

// bodyError is what to answer when a body cannot be read on.
func bodyError(err error) error {
	var refused *telemetry.Refusal
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refused) || errors.Is(err, telemetry.ErrOverloaded):
		return err
	case errors.As(err, &large):
		return telemetry.Refuse(telemetry.ReasonLimit, "the body is longer than %d bytes: split it", large.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSilent
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return telemetry.Refuse(telemetry.ReasonMalformed, "the body ends in the middle: send it whole")
	}
	return telemetry.Refuse(telemetry.ReasonMalformed, "the body cannot be read: %v", err)
}
