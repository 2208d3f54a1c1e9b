package storage_test

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"millrace/storage"
	"millrace/telemetry"
)

// The topics are open to other writers. What they write there may be nothing
// that we know, but it must not stop what comes behind it.
func TestForeignRecordsBecomeDeadLetters(t *testing.T) {
	b := plain(t)
	key := make([]byte, 4000)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(key) // never fails
	h := b.sink(0)
	b.handle(h,
		b.raw(0, telemetry.Entry{Device: hex.EncodeToString(key), Value: []byte("x"), Received: time.Now()}),
		b.raw(0, telemetry.Entry{Device: "a", Value: []byte("x"), Received: time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC)}),
		b.say(0, "truck-1 1 speed=1"))
	if got := strings.TrimSpace(b.query(`select count(*) from dead_letters`)); got != "2" {
		t.Errorf("%s dead letters, want 2", got)
	}
	if got := strings.TrimSpace(b.query(`select count(*) from telemetry`)); got != "1" {
		t.Errorf("%s rows behind them, want 1", got)
	}
}

func TestForeignReasonsBecomeDeadLetters(t *testing.T) {
	b := plain(t)
	s, err := storage.NewSink(b.db, b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Dead().Claim(t.Context(), 99, []int32{0}); err != nil {
		t.Fatal(err)
	}
	r := telemetry.Record{Entry: telemetry.Entry{Value: []byte("x"), Received: time.Now(), Dead: &telemetry.DeadLetter{Reason: "\xff"}}}
	if err := s.Dead().Handle(t.Context(), []telemetry.Record{r}); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(b.query(`select count(*) from dead_letters`)); got != "1" {
		t.Errorf("%s dead letters, want 1", got)
	}
}
