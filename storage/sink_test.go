package storage_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"millrace/storage"
	"millrace/telemetry"
)

// exerciseFence: who lost a partition commits nothing, who has it goes on.
func exerciseFence(t *testing.T, fresh func(*testing.T) *bundle) {
	b := fresh(t)
	zombie := b.sink(0, 1)
	first := b.say(0, "truck-1 1 speed=1")
	b.handle(zombie, first)

	s, err := storage.NewSink(b.db, b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := s.Readings()
	if got := b.claim(h, 1, 0); got[0] != -1 || got[1] != 1 {
		t.Errorf("claimed offsets of partitions 1 and 0: %v, want -1 and 1", got)
	}
	second := b.say(0, "truck-1 2 speed=2")
	other := b.say(1, "truck-2 1 speed=1")
	for range 2 { // also when it comes again
		err := zombie.Handle(t.Context(), []telemetry.Record{second, other})
		if !errors.Is(err, telemetry.ErrFenced) {
			t.Errorf("the zombie's error is %v", err)
		}
	}
	equal(t, "after the zombie", b.query(`select count(*) from samples`), "1\n")
	b.handle(h, second, other)
	b.handle(h, second)
	equal(t, "stored", b.query(`select device, metric, value from telemetry order by device, value`),
		"truck-1 speed 1\ntruck-1 speed 2\ntruck-2 speed 1\n")
	err = h.Handle(t.Context(), []telemetry.Record{b.say(7, "truck-3 1 speed=1")})
	if !errors.Is(err, telemetry.ErrFenced) {
		t.Errorf("a partition that was never claimed: %v", err)
	}
	// A claim by the same process keeps what it knows, and drops what it lost.
	if got := b.claim(h, 0); got[0] != 2 {
		t.Errorf("claimed again at %v, want 2", got)
	}
	b.handle(h, b.say(0, "truck-1 2 speed=2"))
	equal(t, "counts", b.query(`select "partition", records, stored, duplicates, epoch from log_offsets order by 1`), "0 3 2 1 3\n1 1 1 0 2\n")
}

// exercisePoison: a record that the database refuses is found and put aside.
func exercisePoison(t *testing.T, fresh func(*testing.T) *bundle) {
	b := fresh(t)
	b.exec(`alter table dead_letters add constraint payloads check (true)`)
	b.exec(`alter table samples add constraint nothing_is_666 check (value <> 666)`)
	t.Cleanup(func() {
		_, _ = storage.Pool(b.db).Exec(context.Background(), `alter table samples drop constraint if exists nothing_is_666`)
		_, _ = storage.Pool(b.db).Exec(context.Background(), `alter table dead_letters drop constraint if exists payloads`)
	})
	h := b.sink(0, 1)
	var records []telemetry.Record
	for i := range 20 {
		value := i
		if i == 13 {
			value = 666
		}
		records = append(records, b.say(0, fmt.Sprintf("truck-1 %d speed=%d", i, value)))
	}
	for i := range 5 {
		records = append(records, b.say(1, fmt.Sprintf("truck-2 %d speed=%d", i, i)))
	}
	b.handle(h, records...)
	equal(t, "offsets", b.query(`select "partition", records, stored, dead, missed from log_offsets order by 1`), "0 20 19 1 0\n1 5 5 0 0\n")
	equal(t, "rows", b.query(`select count(*) from samples`), "24\n")
	got := b.query(`select "offset", reason, device, convert_from(payload, 'UTF8'), detail from dead_letters`)
	if !strings.HasPrefix(got, "13 store truck-1 "+string(records[13].Value)+" the database refused it: ") || strings.Count(got, "\n") != 1 {
		t.Errorf("dead letters:\n%s", got)
	}
}

// exerciseDeadTopic: what the gate refused is kept byte for byte, once.
func exerciseDeadTopic(t *testing.T, fresh func(*testing.T) *bundle) {
	b := fresh(t)
	s, err := storage.NewSink(b.db, b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.claim(s.Dead(), 0)
	payload := []byte("{\x00\xff not JSON")
	letter := b.raw(0, telemetry.Entry{
		Device: "truck-1", Value: payload, Received: midnight,
		Dead: &telemetry.DeadLetter{Reason: telemetry.ReasonMalformed, Detail: "not JSON", Source: "mqtt", Topic: "a/\x00", Client: "c\xff"},
	})
	stranger := b.raw(0, telemetry.Entry{Received: midnight})
	b.handle(s.Dead(), letter)
	b.handle(s.Dead(), letter, stranger)
	letters := storage.NewDeadLetters(b.db)
	list, err := letters.List(t.Context(), storage.DeadFilter{})
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	got := list[1]
	if string(got.Payload) != string(payload) || got.Reason != "malformed" || got.Source != "mqtt" || got.Position != letter.Position ||
		got.LogTopic != "millrace.dead" || got.Log != logID || !got.Received.Equal(midnight) || got.Topic != "a/\ufffd" || got.Client != "c\ufffd" {
		t.Errorf("%+v", got)
	}
	equal(t, "offsets", b.query(`select topic, next_offset, records, dead from log_offsets`), "millrace.dead 2 2 2\n")
	topics := []storage.Topic{{Name: "dead", Log: b.log(1), Dead: true}}
	if report, err := storage.Verify(t.Context(), b.db, topics, nil); err != nil || !report.OK() {
		t.Errorf("verify: %v, %+v", err, report)
	}
	b.exec(`update dead_letters set payload = 'x' where "offset" = 0`)
	if report, err := storage.Verify(t.Context(), b.db, topics, nil); err != nil || report.OK() {
		t.Errorf("verify of changed bytes: %v, %+v", err, report)
	}
}
