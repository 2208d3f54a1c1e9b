package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/stream"
	"millrace/telemetry"
)

// exercises are what a log must do, whatever broker is behind it: kfake in a
// bubble, the embedded broker on TCP, and Apache Kafka. Each gets a log of its own.
var exercises = map[string]func(*testing.T, stream.Config){
	"append and follow":          exerciseAppend,
	"dead letters":               exerciseDead,
	"partition by murmur2":       exercisePartition,
	"topics that exist":          exerciseExisting,
	"foreign producers":          exerciseForeign,
	"follow between cursors":     exerciseFollow,
	"follow for ever":            exerciseFollowOn,
	"cursors that are gone":      exerciseGone,
	"consume and go on":          exerciseConsume,
	"claim decides, not commits": exerciseClaim,
	"errors are tried again":     exerciseRetry,
	"fenced":                     exerciseFenced,
	"two processes":              exerciseShare,
	"retention has passed":       exerciseSkipped,
	"the log lost records":       exerciseLost,
	"commits during a claim":     exerciseOvertaken,
}

func exerciseAppend(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	devices := []string{"truck-1", "truck-2", "a.b:c_d-E"}
	var a appends
	var sent []telemetry.Entry
	for i := range 300 {
		e := entry(devices[i%3], i/3)
		sent = append(sent, e)
		p.Append(t.Context(), e, a.done(i))
	}
	a.wait.Wait()
	if failed, err := a.failed(); failed > 0 {
		t.Fatal(err)
	}
	at := make(map[telemetry.Position]int)
	for i, r := range a.results {
		at[r[0].position] = i
	}
	records := readAll(t, l.Readings())
	if err := checkOrder(records, 100, devices...); err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		want := sent[at[r.Position]]
		if r.Device != want.Device || string(r.Value) != string(want.Value) || !r.Received.Equal(want.Received) || r.Dead != nil {
			t.Fatalf("at %v: %+v instead of %+v", r.Position, r.Entry, want)
		}
	}
}

func exerciseDead(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	dead := telemetry.DeadLetter{
		Reason: telemetry.ReasonMalformed, Detail: "it is not JSON: send JSON",
		Source: "mqtt", Topic: "telemetry/x", Client: "c1",
	}
	entries := []telemetry.Entry{
		{Value: []byte{0xff, 0, 1}, Received: time.Now(), Dead: &dead}, // of nobody
		{Device: "truck-7", Value: []byte("{"), Received: time.Now(), Dead: &dead},
	}
	var a appends
	for i, e := range entries {
		p.TryAppend(t.Context(), e, a.done(i))
	}
	a.wait.Wait()
	if failed, err := a.failed(); failed > 0 {
		t.Fatal(err)
	}
	got := readAll(t, l.Dead())
	if len(got) != 2 {
		t.Fatalf("%d dead letters instead of 2", len(got))
	}
	for _, r := range got {
		want := entries[0]
		if r.Device != "" {
			want = entries[1]
		}
		if r.Device != want.Device || string(r.Value) != string(want.Value) || r.Dead == nil || *r.Dead != dead {
			t.Errorf("got %+v, %+v", r.Entry, r.Dead)
		}
	}
	if n := len(readAll(t, l.Readings())); n != 0 {
		t.Errorf("%d readings instead of none", n)
	}
}

// exercisePartition holds the partition to Kafka's own: the vectors are those
// of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
func exercisePartition(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	vectors := map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
	}
	for device, hash := range vectors {
		var a appends
		p.Append(t.Context(), telemetry.Entry{Device: device, Value: []byte("{}"), Received: time.Now()}, a.done(0))
		a.wait.Wait()
		if want := (hash & 0x7fffffff) % 8; a.results[0][0].position.Partition != want {
			t.Errorf("%s: %+v instead of partition %d", device, a.results[0], want)
		}
	}
}

func exerciseExisting(t *testing.T, c stream.Config) {
	first := openLog(t, c)
	c.Partitions = 3
	again := openLog(t, c)
	_, a, err := first.Readings().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, b, err := again.Readings().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Next) != 8 || a.Log != b.Log || a.Log == 0 {
		t.Errorf("another log: %v and %v", a, b)
	}
	_, d, err := first.Dead().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d.Log == a.Log {
		t.Error("two topics are one log")
	}
}

// kafkaClient is a client as anybody has it.
func kafkaClient(t testing.TB, c stream.Config) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Brokers...)}, c.Options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func exerciseForeign(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	client := kafkaClient(t, c)
	for _, topic := range []*stream.Topic{l.Readings(), l.Dead()} {
		foreign := &kgo.Record{Topic: topic.Name(), Value: []byte("not ours"), Headers: []kgo.RecordHeader{{Key: "rx", Value: []byte("yesterday")}}}
		if err := client.ProduceSync(t.Context(), foreign).FirstErr(); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, topic)
		if len(got) != 1 || string(got[0].Value) != "not ours" || got[0].Device != "" || !got[0].Received.Equal(foreign.Timestamp) {
			t.Errorf("%s: %+v", topic.Name(), got)
		}
		if (got[0].Dead != nil) != (topic == l.Dead()) {
			t.Errorf("%s: dead is %v", topic.Name(), got[0].Dead)
		}
	}
}

func exerciseFollow(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	devices := []string{"d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"}
	fill(t, p, 20, devices...)
	_, middle, err := l.Readings().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fill(t, p, 20, devices...)
	first, last, err := l.Readings().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, b := read(t, l.Readings(), first, middle), read(t, l.Readings(), middle, last)
	if err := errors.Join(checkOrder(a, 20, devices...), checkOrder(b, 20, devices...)); err != nil {
		t.Error(err)
	}
	if n := len(read(t, l.Readings(), last, last)); n != 0 {
		t.Errorf("%d records between a cursor and itself", n)
	}
	stopped := errors.New("enough")
	err = l.Readings().Follow(t.Context(), first, last, func([]telemetry.Record) error { return stopped })
	if err != stopped { //nolint:errorlint // as it is
		t.Errorf("%v instead of the handler's error", err)
	}
}

func exerciseFollowOn(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	fill(t, p, 1, "before")
	_, now, err := l.Readings().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	enough := errors.New("enough")
	outcome := make(chan error)
	go func() {
		outcome <- l.Readings().Follow(t.Context(), now, telemetry.Cursor{}, func(records []telemetry.Record) error {
			for _, r := range records {
				got <- r.Device
			}
			if len(got) == 3 {
				return enough
			}
			return nil
		})
	}()
	for _, device := range []string{"x", "y", "z"} {
		fill(t, p, 1, device)
	}
	if err := <-outcome; !errors.Is(err, enough) {
		t.Fatal(err)
	}
	devices := []string{<-got, <-got, <-got}
	slices.Sort(devices)
	if !slices.Equal(devices, []string{"x", "y", "z"}) {
		t.Errorf("got %v", devices)
	}
	if err := l.Readings().Follow(ended(t), now, telemetry.Cursor{}, nil); err == nil {
		t.Error("an ended follow answers nil, as if it had come to its end")
	}
}

func exerciseGone(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	fill(t, p, 10, "a", "b", "c")
	first, next, err := l.Readings().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, less, ahead := first.Clone(), first.Clone(), next.Clone()
	other.Log++
	less.Next = less.Next[1:]
	ahead.Next[0] += 5
	far := ahead.Clone()
	far.Next[0]++
	if err := deleteRecords(t, c, l.Readings(), next); err != nil {
		t.Fatal(err)
	}
	fill(t, p, 1, "a", "b", "c")
	_, now, err := l.Readings().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, cursors := range map[string][2]telemetry.Cursor{
		"another log":         {other, next},
		"fewer partitions":    {less, next},
		"removed":             {first, now},
		"beyond the end":      {ahead, far},
		"a time":              {telemetry.Cursor{Time: time.Now()}, next},
		"nothing":             {},
		"bound in other log":  {next, other},
		"removed, for ever":   {first, {}},
		"another, for ever":   {other, {}},
		"beyond the end, on ": {far, {}},
	} {
		err := l.Readings().Follow(t.Context(), cursors[0], cursors[1], func([]telemetry.Record) error { return nil })
		if !errors.Is(err, telemetry.ErrGone) {
			t.Errorf("%s: %v instead of ErrGone", name, err)
		}
	}
}

// deleteRecords removes all before the cursor, as retention does.
func deleteRecords(t testing.TB, c stream.Config, topic *stream.Topic, to telemetry.Cursor) error {
	admin := kadm.NewClient(kafkaClient(t, c))
	offsets := make(kadm.Offsets)
	for p, next := range to.Next {
		offsets.AddOffset(topic.Name(), int32(p), next, -1)
	}
	deleted, err := admin.DeleteRecords(t.Context(), offsets)
	if err != nil {
		return err
	}
	return deleted.Error()
}

func exerciseConsume(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	devices := []string{"d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"}
	tb := newTable()
	fill(t, p, 50, devices...)
	stop := consume(t, l.Readings(), group(c), &shelf{table: tb}, stream.ConsumerConfig{MaxBatch: 100})
	tb.wait(t, "the backlog", has(400))
	fill(t, p, 10, "live")
	tb.wait(t, "what comes", has(410))
	stop()
	fill(t, p, 10, "away")
	consume(t, l.Readings(), group(c), &shelf{table: tb}, stream.ConsumerConfig{})
	tb.wait(t, "what came meanwhile", has(420))
	if err := errors.Join(checkOrder(tb.sorted(), 50, devices...), checkOrder(tb.sorted(), 10, "live", "away")); err != nil {
		t.Error(err)
	}
}

func group(c stream.Config) string { return c.Prefix + ".sink" }

func exerciseClaim(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	fill(t, p, 100, "a")
	tb := newTable()
	stop := consume(t, l.Readings(), group(c), &shelf{table: tb}, stream.ConsumerConfig{})
	tb.wait(t, "all", has(100))
	stop()
	committed, err := kadm.NewClient(kafkaClient(t, c)).FetchOffsets(t.Context(), group(c))
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	committed.Each(func(o kadm.OffsetResponse) { total += max(0, o.At) })
	if total != 100 {
		t.Errorf("%d committed instead of 100: tools for lag would be wrong", total)
	}
	// The database was restored from a backup: it knows 40 of them.
	restored := newTable()
	for partition := range tb.next {
		restored.next[partition] = 40
	}
	consume(t, l.Readings(), group(c), &shelf{table: restored}, stream.ConsumerConfig{})
	restored.wait(t, "the rest", has(60))
	if got := restored.sorted(); got[0].Offset != 40 || len(got) != 60 {
		t.Errorf("%d records from %d instead of 60 from 40", len(got), got[0].Offset)
	}
}

func exerciseRetry(t *testing.T, c stream.Config) {
	var retried atomic.Int32
	c.Events.Retried = func(_, _ string, err error) { retried.Add(1) }
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	tb := newTable()
	tries := 0
	sink := &shelf{table: tb, fault: func([]telemetry.Record) error {
		if tries++; tries%3 != 0 {
			return errors.New("the database is away")
		}
		return nil
	}}
	consume(t, l.Readings(), group(c), sink, stream.ConsumerConfig{MaxBatch: 100})
	fill(t, p, 100, "a", "b")
	tb.wait(t, "all", has(200))
	if err := checkOrder(tb.sorted(), 100, "a", "b"); err != nil {
		t.Error(err)
	}
	if retried.Load() < 2 {
		t.Errorf("%d tries were told of", retried.Load())
	}
}

func exerciseFenced(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	tb := newTable()
	sink := &shelf{table: tb}
	consume(t, l.Readings(), group(c), sink, stream.ConsumerConfig{})
	fill(t, p, 10, "a", "b")
	tb.wait(t, "the first", has(20))
	tb.mu.Lock()
	for partition := range tb.epoch {
		tb.epoch[partition]++ // a zombie, or an operator
	}
	tb.mu.Unlock()
	fill(t, p, 1, "c")
	tb.wait(t, "what comes after the fence", has(21))
	if err := checkOrder(tb.sorted(), 10, "a", "b"); err != nil {
		t.Error(err)
	}
}

func exerciseShare(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	tb := newTable()
	devices := make([]string, 20)
	for i := range devices {
		devices[i] = fmt.Sprintf("d%d", i)
	}
	one, two := &shelf{table: tb}, &shelf{table: tb}
	config := stream.ConsumerConfig{Session: 6 * time.Second, MaxBatch: 64}
	stopOne := consume(t, l.Readings(), group(c), one, config)
	fill(t, p, 20, devices...)
	tb.wait(t, "the first alone", has(400))
	stopTwo := consume(t, l.Readings(), group(c), two, config)
	tb.wait(t, "both have a half", func(*table) bool { return len(one.held) == 4 && len(two.held) == 4 })
	var a appends
	for i := range 20 {
		for d, device := range devices {
			p.Append(t.Context(), entry(device, 20+i), a.done(i*20+d))
		}
	}
	a.wait.Wait()
	tb.wait(t, "both", has(800))
	stopOne()
	tb.wait(t, "the second has all", func(*table) bool { return len(two.held) == 8 })
	stopTwo()
	if err := checkOrder(tb.sorted(), 40, devices...); err != nil {
		t.Error(err)
	}
}

func exerciseSkipped(t *testing.T, c stream.Config) {
	var skipped atomic.Int64
	c.Events.Skipped = func(_, _ string, _ int32, records int64) { skipped.Add(records) }
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	fill(t, p, 100, "a")
	tb := newTable()
	stop := consume(t, l.Readings(), group(c), &shelf{table: tb}, stream.ConsumerConfig{})
	tb.wait(t, "all", has(100))
	stop()
	fill(t, p, 30, "a")
	_, next, err := l.Readings().Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := deleteRecords(t, c, l.Readings(), next); err != nil {
		t.Fatal(err)
	}
	fill(t, p, 5, "a")
	tb.next = map[int32]int64{tb.records[0].Partition: 100}
	tolerant := &shelf{table: tb, fault: func(records []telemetry.Record) error {
		tb.next[records[0].Partition] = records[0].Offset // a hole is what it is about
		return nil
	}}
	consume(t, l.Readings(), group(c), tolerant, stream.ConsumerConfig{})
	tb.wait(t, "the rest", has(105))
	if skipped.Load() != 30 {
		t.Errorf("%d records were said to be skipped instead of 30", skipped.Load())
	}
}

func exerciseLost(t *testing.T, c stream.Config) {
	l := openLog(t, c)
	p := newProducer(t, l, stream.ProducerConfig{})
	fill(t, p, 10, "a")
	tb := newTable()
	for partition := range int32(8) {
		tb.next[partition] = 1000
	}
	err := stream.NewConsumer(l.Readings(), group(c), &shelf{table: tb}, stream.ConsumerConfig{}).Run(t.Context())
	if err == nil || len(tb.records) > 0 {
		t.Errorf("a log that ends before the database's offset is taken for good: %v, %d records", err, len(tb.records))
	}
}
