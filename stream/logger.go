package stream

import (
	"context"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"
)

// clientLogger hands the Kafka client's messages to slog, one level lower than
// it gives them: its warnings are retries that it handles, and what a user must
// know, this package says itself.
type clientLogger struct{ log *slog.Logger }

// Level is what the client need not format below.
func (c clientLogger) Level() kgo.LogLevel {
	ctx := context.Background()
	switch {
	case c.log.Enabled(ctx, slog.LevelDebug-4):
		return kgo.LogLevelDebug
	case c.log.Enabled(ctx, slog.LevelDebug):
		return kgo.LogLevelWarn
	case c.log.Enabled(ctx, slog.LevelWarn):
		return kgo.LogLevelError
	}
	return kgo.LogLevelNone
}

// Log takes one message of the client.
func (c clientLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	at := slog.LevelDebug - 4
	switch level {
	case kgo.LogLevelError:
		at = slog.LevelWarn
	case kgo.LogLevelWarn:
		at = slog.LevelDebug
	}
	c.log.Log(context.Background(), at, "kafka client: "+msg, keyvals...)
}
