package embedded

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestStartSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	running := start(t, Config{})
	foreign, broken, headless := t.TempDir(), t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(foreign+"/holiday.jpg", "")
	write(broken+"/meta.json", "{")
	write(headless+"/meta.json", `{"version":1}`)
	write(headless+"/partitions/t-0/0.dat", "")
	file := filepath.Join(foreign, "holiday.jpg")
	for name, test := range map[string]struct {
		config Config
		parts  []string
	}{
		"port taken":      {Config{Addr: taken.Addr().String(), Dir: t.TempDir()}, []string{taken.Addr().String(), "address already in use", "--kafka-listen"}},
		"no port":         {Config{Addr: "localhost", Dir: t.TempDir()}, []string{"localhost", "host:port"}},
		"all addresses":   {Config{Addr: "0.0.0.0:0", Dir: t.TempDir()}, []string{"0.0.0.0:0", "name the one address"}},
		"no directory":    {Config{}, []string{"no directory"}},
		"in use":          {Config{Dir: running.config.Dir}, []string{running.config.Dir, "in use by process", "--data"}},
		"not a log":       {Config{Dir: foreign}, []string{foreign, "is not a log", "--data"}},
		"a file":          {Config{Dir: file}, []string{file, "not a directory"}},
		"broken":          {Config{Dir: broken}, []string{broken, "meta.json", "restore it"}},
		"topics are gone": {Config{Dir: headless}, []string{headless, "topics.json is missing", "restore it"}},
		"retention":       {Config{Dir: t.TempDir(), RetentionBytes: 1000}, []string{"retention of 1000 bytes"}},
	} {
		if test.config.Addr == "" {
			test.config.Addr = "127.0.0.1:0"
		}
		_, err := Start(t.Context(), test.config)
		if err == nil {
			t.Errorf("%s: started", name)
			continue
		}
		for _, part := range test.parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", name, err, part)
			}
		}
	}
}

func TestALogGoesOn(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Config{Dir: dir})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 100)
	id := topicID(t, client)
	b.Close()
	b = start(t, Config{Dir: dir})
	if got := values(t, b); len(got) != 100 {
		t.Errorf("%d records instead of 100", len(got))
	}
	if again := topicID(t, dial(t, b)); again != id {
		t.Errorf("the topic has another id: %v and %v", id, again)
	}
}

func topicID(t *testing.T, client *kgo.Client) kadm.TopicID {
	t.Helper()
	topics, err := kadm.NewClient(client).ListTopics(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	return topics["t"].ID
}

// Below the mark nothing is acknowledged and nothing is lost: what was refused
// goes through when there is room again.
func TestNoAppendsWithoutFreeSpace(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	said := make(chan string, 10)
	b := start(t, Config{
		MinFree: 1 << 30, free: func(string) (int64, error) { return free.Load(), nil },
		Events: Events{Refused: func(why string) { said <- why }},
	})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 3)
	free.Store(1<<30 - 1)
	outcome := make(chan error, 1)
	client.Produce(t.Context(), &kgo.Record{Value: []byte("when there is room")}, func(_ *kgo.Record, err error) { outcome <- err })
	if why := <-said; !strings.Contains(why, "1023 MiB free") {
		t.Errorf("it says %q", why)
	}
	if _, next := bounds(t, client); next != 3 {
		t.Errorf("the log has %d records instead of 3", next)
	}
	select {
	case err := <-outcome:
		t.Fatalf("answered with %v", err)
	default:
	}
	free.Store(1 << 40)
	if err := <-outcome; err != nil {
		t.Error(err)
	}
	if why := <-said; why != "" {
		t.Errorf("it says %q", why)
	}
	if got := values(t, b); len(got) != 4 || got[3] != "when there is room" {
		t.Errorf("the log has %d records", len(got))
	}
}

// A write that fails ends the broker: kfake would acknowledge what is sent
// again. What kfake says of such a write stands for it here.
func TestAFailedWriteIsTheEnd(t *testing.T) {
	b := start(t, Config{segment: 1 << 20})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 10)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(context.WithoutCancel(t.Context())) }()
	b.guard.Logf(2, "persist batch %s-%d: %v", "t", 0, syscall.ENOSPC)
	outcome := make(chan error, 1)
	client.Produce(t.Context(), &kgo.Record{Value: []byte("no")}, func(_ *kgo.Record, err error) { outcome <- err })
	err := <-ended
	client.Close()
	if err := <-outcome; err == nil {
		t.Error("acknowledged after a failed write")
	}
	if err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), "start again") {
		t.Errorf("Run ends with %v", err)
	}
	again := start(t, Config{Dir: b.config.Dir})
	if got := values(t, again); len(got) != 10 {
		t.Errorf("%d records instead of 10", len(got))
	}
}

// A log whose directory is gone ends the broker, with what to do about it.
func TestAVanishedDirectoryIsTheEnd(t *testing.T) {
	for name, again := range map[string]bool{"removed": false, "made anew": true} {
		t.Run(name, func(t *testing.T) {
			swept := make(chan struct{}, 1)
			b := start(t, Config{Dir: filepath.Join(t.TempDir(), "log"), Events: Events{Size: func(_, _, _ int64) {
				select {
				case swept <- struct{}{}:
				default:
				}
			}}})
			client := dial(t, b)
			createTopic(t, client, 1)
			put(t, client, 10)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // for one that goes on
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- b.Run(ctx) }()
			<-swept
			if err := os.Rename(b.config.Dir, b.config.Dir+".away"); err != nil {
				t.Fatal(err)
			}
			if again {
				if err := os.Mkdir(b.config.Dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			err := <-ended
			if err == nil || !strings.Contains(err.Error(), b.config.Dir+" is gone") || !strings.Contains(err.Error(), "put the folder back") {
				t.Errorf("Run ends with %v", err)
			}
			if !b.guard.refuses() {
				t.Error("a log that is gone accepts appends")
			}
		})
	}
}

// What fails in the same way each second is said once.
func TestRetentionThatFailsIsSaidOnce(t *testing.T) {
	var log strings.Builder
	why := errors.New("the first reason")
	b := start(t, Config{
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})), Events: Events{Size: func(_, _, _ int64) {}},
	})
	b.config.free = func(string) (int64, error) { return 0, why }
	f := func(said string, want int) string {
		t.Helper()
		said = b.retain(b.retain(said))
		if n := strings.Count(log.String(), "retention cannot be applied"); n != want {
			t.Errorf("said %d times, want %d: %s", n, want, log.String())
		}
		return said
	}
	said := f("", 1)
	why = errors.New("another reason")
	said = f(said, 2)
	why = nil
	said = f(said, 2)
	why = errors.New("another reason")
	f(said, 3)
}

// What could empty a partition is refused: its offsets would begin anew.
func TestClientsCannotEmptyATopic(t *testing.T) {
	b := start(t, Config{})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 3)
	admin := kadm.NewClient(client)
	offsets := make(kadm.Offsets)
	offsets.AddOffset("t", 0, 3, -1)
	if deleted, err := admin.DeleteRecords(t.Context(), offsets); err != nil || !errors.Is(deleted.Error(), kerr.PolicyViolation) {
		t.Errorf("delete records: %v, %v", err, deleted.Error())
	}
	short := "1"
	changes := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &short}}
	altered, err := admin.AlterTopicConfigs(t.Context(), changes, "t")
	if err != nil || !errors.Is(altered[0].Err, kerr.PolicyViolation) {
		t.Errorf("alter: %v, %v", err, altered)
	}
	altered, err = admin.AlterTopicConfigsState(t.Context(), changes, "t")
	if err != nil || !errors.Is(altered[0].Err, kerr.PolicyViolation) {
		t.Errorf("alter state: %v, %v", err, altered)
	}
	_, err = admin.CreateTopic(t.Context(), 1, 1, map[string]*string{"retention.bytes": &short}, "u")
	if !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("create: %v", err)
	}
}

func TestRetentionByBytes(t *testing.T) {
	var removed atomic.Int64
	b := start(t, Config{RetentionBytes: 20 << 10, Events: Events{Removed: func(n int64) { removed.Add(n) }}})
	client := dial(t, b)
	createTopic(t, client, 2)
	put(t, client, 400)
	sweep(t, b, time.Now())
	first, next := bounds(t, client)
	if next != 400 || first < 200 || first > 390 || removed.Load() == 0 {
		t.Errorf("the log holds %d to %d, %d bytes were removed", first, next, removed.Load())
	}
	if got := values(t, b); len(got) != int(next-first) || !strings.HasSuffix(got[len(got)-1], "399") {
		t.Errorf("%d records", len(got))
	}
}

func sweep(t *testing.T, b *Broker, now time.Time) {
	t.Helper()
	if err := b.sweep(now); err != nil {
		t.Fatal(err)
	}
}

// However old and however many: the newest segments stay, so that offsets go
// on, also over a restart, clean or not.
func TestRetentionNeverEmptiesATopic(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Config{Dir: dir, RetentionTime: time.Hour, RetentionBytes: 1})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 200)
	sweep(t, b, time.Now().Add(1000*time.Hour))
	first, next := bounds(t, client)
	if next != 200 || first >= next || first < 100 {
		t.Errorf("the log holds %d to %d", first, next)
	}
	b.Close()
	b = start(t, Config{Dir: dir})
	if f, n := bounds(t, dial(t, b)); f != first || n != next {
		t.Errorf("after a restart the log holds %d to %d, before %d to %d", f, n, first, next)
	}
	b.Close()
	if err := os.Remove(filepath.Join(dir, partitionsName, "t-0", snapshotName)); err != nil { // as after a crash
		t.Fatal(err)
	}
	b = start(t, Config{Dir: dir})
	if f, n := bounds(t, dial(t, b)); f != first || n != next {
		t.Errorf("after a crash the log holds %d to %d, before %d to %d", f, n, first, next)
	}
}

// Age is the time of writing: a device's clock decides about nothing.
func TestRetentionByAge(t *testing.T) {
	b := start(t, Config{RetentionTime: time.Hour})
	client := dial(t, b)
	createTopic(t, client, 1)
	old := &kgo.Record{Value: []byte("my clock is wrong"), Timestamp: time.Unix(0, 0)}
	if err := client.ProduceSync(t.Context(), old).FirstErr(); err != nil {
		t.Fatal(err)
	}
	put(t, client, 200)
	sweep(t, b, time.Now().Add(59*time.Minute))
	if first, _ := bounds(t, client); first != 0 {
		t.Errorf("an hour is not over, but the log begins at %d", first)
	}
	sweep(t, b, time.Now().Add(2*time.Hour))
	if first, _ := bounds(t, client); first == 0 {
		t.Error("nothing was removed")
	}
}

func TestRetentionByIndex(t *testing.T) {
	b := start(t, Config{Index: 100 * indexEntry})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 400)
	sweep(t, b, time.Now())
	if first, next := bounds(t, client); next-first > 100 || next-first < 20 {
		t.Errorf("the index has %d entries, more than 100", next-first)
	}
}

// What a reader has not read stays; if that is too much, appends are refused
// until it has.
func TestRetentionSparesWhatIsUnread(t *testing.T) {
	b := start(t, Config{RetentionBytes: 20 << 10, Readers: []Reader{{Topic: "t", Group: "sink"}}})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 400)
	sweep(t, b, time.Now())
	if first, _ := bounds(t, client); first != 0 {
		t.Errorf("unread records were removed: the log begins at %d", first)
	}
	if !b.guard.refuses() || !strings.Contains(b.guard.why, "is the database away?") {
		t.Errorf("a log that cannot shrink accepts appends: %q", b.guard.why)
	}
	commit(t, client, 380)
	sweep(t, b, time.Now())
	first, _ := bounds(t, client)
	if first == 0 || first > 380 {
		t.Errorf("the log begins at %d", first)
	}
	if b.guard.refuses() {
		t.Errorf("refuses appends still: %s", b.guard.why)
	}
	put(t, client, 1)
}

func commit(t *testing.T, client *kgo.Client, at int64) {
	t.Helper()
	offsets := make(kadm.Offsets)
	offsets.AddOffset("t", 0, at, -1)
	if _, err := kadm.NewClient(client).CommitOffsets(t.Context(), "sink", offsets); err != nil {
		t.Fatal(err)
	}
}

func TestRemovableIsAPrefixOfEachPartition(t *testing.T) {
	at := func(minute int) time.Time { return time.Unix(int64(60*minute), 0) }
	p, q := partition{"t", 0}, partition{"t", 1}
	var bases []int64
	for _, s := range removable([]segment{
		{partition: p, base: 0, written: at(1)},
		{partition: p, base: 1, written: at(3)},
		{partition: p, base: 2, written: at(5)},
		{partition: p, base: 3, written: at(6)},
		{partition: q, base: 10, written: at(2)},
		{partition: q, base: 11, written: at(4)},
		{partition: q, base: 12, written: at(7)},
	}) {
		bases = append(bases, s.base)
	}
	if !slices.Equal(bases, []int64{0, 10, 1}) {
		t.Errorf("removable are %v", bases)
	}
}

func TestRunEndsAndCloses(t *testing.T) {
	sizes := make(chan [3]int64, 1)
	b := start(t, Config{Events: Events{Size: func(log, index, free int64) {
		select {
		case sizes <- [3]int64{log, index, free}:
		default:
		}
	}}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	if s := <-sizes; s[2] == 0 {
		t.Errorf("sizes are %v", s)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	start(t, Config{Dir: b.config.Dir}) // it is free again
}
