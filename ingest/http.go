package ingest

import (
	"log/slog"
	"net/http"
	"time"
)

// HTTPLimits of the HTTP door. Reaching one is an answer that names it.
type HTTPLimits struct {
	BodyBytes     int64         // of a body as it is sent; default 64 MiB
	ExpandedBytes int64         // of a body after gzip or zstd; default 256 MiB
	DocumentBytes int           // of a JSON array or SenML pack, which is read whole; default 8 MiB
	LineBytes     int           // of a line of NDJSON or line protocol; default 768 KiB
	BufferedBytes int64         // of all bodies in memory at once; default 256 MiB
	Silence       time.Duration // without a byte of the body; default 30 s
}

// HTTPEvents report what happens at the HTTP door; each may be nil.
type HTTPEvents struct {
	// Answered: a request got its answer.
	Answered func(status int, bytes int64, took time.Duration)
}

// HTTPConfig of the HTTP door.
type HTTPConfig struct {
	Gate   *Gate
	Auth   Authenticator // nil lets nobody in
	Limits HTTPLimits
	Events HTTPEvents
	Log    *slog.Logger // nil: silent
}

// NewHandler is the HTTP door: POST /v1/telemetry and POST
// /v1/devices/{device}/telemetry.
func NewHandler(config HTTPConfig) http.Handler { return http.NewServeMux() }
