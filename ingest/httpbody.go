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

// inFlight is how many parts of a body may await their acknowledgement: enough
// to keep the log busy, few enough that one request cannot fill its buffers.
const inFlight = 32

// take reads the body, lets the gate accept it part by part, and collects what
// became of it. A client that sends faster than the log takes is slowed down by
// its own connection.
func (h *handler) take(w http.ResponseWriter, r *http.Request, m Message) answer {
	body, err := h.open(w, r)
	if err != nil {
		return answer{err: err}
	}
	defer body.Close()
	b := &buffer{handler: h}
	defer b.release()
	p := &parts{handler: h}
	for last := false; !last && err == nil && p.err == nil; {
		if m.Payload, last, err = h.part(body, b, m.Form.Lines()); err != nil {
			err = bodyError(err)
			break
		}
		if len(m.Payload) > 0 || !m.Form.Lines() {
			p.accept(r.Context(), m)
		}
	}
	for p.err == nil && len(p.waiting) > 0 {
		p.await(r.Context())
	}
	if p.err == nil {
		p.err = err
	}
	return p.answer
}

// parts are the parts of a body on their way through the gate, oldest first.
type parts struct {
	answer
	handler *handler
	waiting []chan Outcome
}

func (p *parts) accept(ctx context.Context, m Message) {
	if len(p.waiting) == inFlight {
		p.await(ctx)
	}
	outcome := make(chan Outcome, 1)
	p.waiting = append(p.waiting, outcome)
	p.handler.gate.Accept(ctx, m, func(o Outcome) { outcome <- o })
}

// await takes in the outcome of the oldest part. When the client goes away it
// waits no longer; the outcome then finds nobody and is dropped.
func (p *parts) await(ctx context.Context) {
	late := time.NewTimer(p.handler.limits.Answer)
	defer late.Stop()
	select {
	case o := <-p.waiting[0]:
		p.waiting = p.waiting[1:]
		p.add(o, p.handler.gate.limits.Refusals)
	case <-ctx.Done():
		p.err = fmt.Errorf("%w: the client went away", telemetry.ErrClosed)
	case <-late.C:
		p.err = fmt.Errorf("%w: the log has not acknowledged within %s", telemetry.ErrUnavailable, p.handler.limits.Answer)
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

const firstRead = 32 << 10

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
// Closing it frees the decompressor; the body itself is the server's to close.
func (h *handler) open(w http.ResponseWriter, r *http.Request) (io.ReadCloser, error) {
	sent := &patient{
		from:    http.MaxBytesReader(w, r.Body, h.limits.BodyBytes),
		control: http.NewResponseController(w),
		silence: h.limits.Silence,
	}
	limited := func(from io.Reader) io.Reader {
		return &expanded{from: from, left: h.limits.ExpandedBytes, most: h.limits.ExpandedBytes}
	}
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return io.NopCloser(sent), nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(sent)
		if err != nil {
			return nil, bodyError(err)
		}
		return io.NopCloser(limited(z)), nil
	case "zstd":
		z, err := zstd.NewReader(sent, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, bodyError(err)
		}
		return readCloser{limited(z), z.Close}, nil
	default:
		return nil, fmt.Errorf("%w: Content-Encoding %.40q is neither gzip nor zstd", errUnsupported, encoding)
	}
}

type readCloser struct {
	io.Reader
	close func()
}

func (r readCloser) Close() error {
	r.close()
	return nil
}

// patient gives up on a client that sends nothing for a while, so that idle
// bodies cannot collect (CWE-400). While the answer is awaited, it may be silent.
type patient struct {
	from    io.Reader
	control *http.ResponseController
	silence time.Duration
}

func (p *patient) Read(b []byte) (int, error) {
	// Errors are of writers without a connection, in tests and behind wrappers.
	_ = p.control.SetReadDeadline(time.Now().Add(p.silence))
	n, err := p.from.Read(b)
	if err == nil || errors.Is(err, io.EOF) {
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

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
