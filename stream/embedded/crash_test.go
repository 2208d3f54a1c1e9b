package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// victimDir is the variable that makes this test binary a victim: a process
// that appends to a log in the directory, writes each acknowledged number to
// its standard output, and kills itself in the middle of it.
const victimDir = "EMBEDDED_TEST_VICTIM"

// victim appends until it has killed itself. It never returns.
func victim(dir string) {
	b, err := Start(context.Background(), Config{Addr: "127.0.0.1:0", Dir: dir, segment: 64 << 10, NoSync: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.DefaultProduceTopic("t"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := b.cluster.CreateTopic("t", 1, nil); err != nil && !strings.Contains(err.Error(), "exists") {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var acknowledged atomic.Int64
	prefix := os.Getenv(victimDir + "_ROUND")
	for i := 0; ; i++ {
		value := prefix + "-" + strconv.Itoa(i)
		client.Produce(context.Background(), &kgo.Record{Value: []byte(value)}, func(_ *kgo.Record, err error) {
			if err != nil {
				return
			}
			_, _ = os.Stdout.WriteString(value + "\n") // not buffered: said before the end
			if acknowledged.Add(1) == 5000 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		})
	}
}

// Killed mid-append, three times over: every acknowledged record is there,
// once and in order.
func TestKillNine(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), victimDir+"="+dir, fmt.Sprintf("%s_ROUND=%d", victimDir, round))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the victim ended with %v", err)
		}
		lines := bufio.NewScanner(bytes.NewReader(out))
		for lines.Scan() {
			acknowledged = append(acknowledged, lines.Text())
		}
	}
	b := start(t, Config{Dir: dir, segment: 64 << 10})
	got := values(t, b)
	at := 0
	for _, value := range got {
		if at < len(acknowledged) && value == acknowledged[at] {
			at++
		}
	}
	if at < len(acknowledged) || len(acknowledged) < 15_000 {
		t.Errorf("of %d acknowledged records, number %d (%s) is missing or out of order", len(acknowledged), at, acknowledged[at])
	}
	seen := make(map[string]bool)
	for _, value := range got {
		if seen[value] {
			t.Errorf("%s is there twice", value)
		}
		seen[value] = true
	}
	t.Logf("%d acknowledged, %d in the log", len(acknowledged), len(got))
}

// crash makes the directory look as after kill -9: what only a proper end
// writes is of an earlier one.
func crash(t *testing.T, b *Broker) {
	t.Helper()
	saved := make(map[string][]byte)
	for _, name := range []string{sequencesName, filepath.Join(partitionsName, "t-0", snapshotName)} {
		raw, err := os.ReadFile(filepath.Join(b.config.Dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		saved[name] = raw
	}
	b.Close()
	for name, raw := range saved {
		if err := os.WriteFile(filepath.Join(b.config.Dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// After a torn write the rest of the log is there, and it goes on.
func TestATornBatch(t *testing.T) {
	b := start(t, Config{})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 100)
	crash(t, b)
	segments, err := readPartition(filepath.Join(b.config.Dir, partitionsName, "t-0"))
	if err != nil {
		t.Fatal(err)
	}
	last := segments[len(segments)-1]
	name := filepath.Join(b.config.Dir, partitionsName, "t-0", strconv.FormatInt(last.base, 10))
	if err := os.Truncate(name+".dat", last.data-10); err != nil {
		t.Fatal(err)
	}
	again := start(t, Config{Dir: b.config.Dir})
	if got := values(t, again); len(got) != 99 {
		t.Errorf("%d records instead of 99", len(got))
	}
	other := dial(t, again)
	put(t, other, 50)
	if got := values(t, again); len(got) != 149 {
		t.Errorf("%d records instead of 149", len(got))
	}
	crash(t, again)
	if got := values(t, start(t, Config{Dir: b.config.Dir})); len(got) != 149 {
		t.Errorf("%d records instead of 149 after another crash", len(got))
	}
}

// A segment that a crash left empty does not begin the partition anew.
func TestAnEmptySegment(t *testing.T) {
	b := start(t, Config{})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 100)
	crash(t, b)
	empty := filepath.Join(b.config.Dir, partitionsName, "t-0", "100.dat")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again := start(t, Config{Dir: b.config.Dir})
	if first, next := bounds(t, dial(t, again)); first != 0 || next != 100 {
		t.Errorf("the log holds %d to %d", first, next)
	}
	put(t, dial(t, again), 10)
}

// What a producer sends again after a crash of the broker, because the answer
// did not come, is recognised.
func TestABatchSentAgainAfterACrash(t *testing.T) {
	b := start(t, Config{})
	client := dial(t, b)
	createTopic(t, client, 1)
	put(t, client, 20)
	dir := b.config.Dir
	producer, epoch, err := client.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := topicID(t, client)
	crash(t, b)
	segments, err := readPartition(filepath.Join(dir, partitionsName, "t-0"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, partitionsName, "t-0", fmt.Sprintf("%d.dat", segments[len(segments)-1].base)))
	if err != nil {
		t.Fatal(err)
	}
	var last []byte
	for h, ok := readHeader(raw); ok; h, ok = readHeader(raw) {
		last, raw = raw[:h.size], raw[h.size:]
		if h.producer != producer || h.epoch != epoch {
			t.Fatalf("a batch of another producer: %+v", h)
		}
	}
	again := start(t, Config{Dir: dir})
	binary.BigEndian.PutUint64(last, 0) // as the client sends it
	if at := produce(t, dial(t, again), id, last); at != 19 {
		t.Errorf("the batch was given offset %d instead of the 19 it has", at)
	}
	if got := values(t, again); len(got) != 20 {
		t.Errorf("%d records instead of 20", len(got))
	}
}

// produce sends a batch as it is, and answers its offset.
func produce(t *testing.T, client *kgo.Client, topic [16]byte, batch []byte) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request := kmsg.NewPtrProduceRequest()
	request.Acks = -1
	request.TimeoutMillis = 1000
	request.Topics = []kmsg.ProduceRequestTopic{{
		Topic: "t", TopicID: topic,
		Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: batch}},
	}}
	response, err := client.Broker(0).Request(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	answer := response.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if answer.ErrorCode != 0 {
		t.Fatalf("refused: %d", answer.ErrorCode)
	}
	return answer.BaseOffset
}
