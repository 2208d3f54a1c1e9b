package mqttd

import (
	"context"
	"log/slog"
)

// quiet is mochi's log as part of ours: everything is a debug message, and
// packets, which hold payloads and passwords, are left out.
type quiet struct{ slog.Handler }

// Enabled says whether debug messages are wanted.
func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle passes the record on, without packets.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, slog.LevelDebug, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if !secret(a.Key) {
			out.AddAttrs(a)
		}
		return true
	})
	return q.Handler.Handle(ctx, out)
}

// WithAttrs keeps attributes for all records that follow.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	kept := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		if !secret(a.Key) {
			kept = append(kept, a)
		}
	}
	return quiet{q.Handler.WithAttrs(kept)}
}

// WithGroup puts what follows into a group.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

func secret(key string) bool {
	switch key {
	case "pk", "packet", "will", "payload":
		return true
	}
	return false
}
