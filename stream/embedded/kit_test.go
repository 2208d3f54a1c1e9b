package embedded

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
	}
	goleak.VerifyTestMain(m)
}

// start starts a broker on a free port, with small segments, that leaves
// writing to the system: no test here cuts the power.
func start(t testing.TB, c Config) *Broker {
	t.Helper()
	c.Addr, c.NoSync = "127.0.0.1:0", true
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.segment == 0 {
		c.segment = 4 << 10
	}
	b, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func dial(t testing.TB, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.Addr()), kgo.ProducerLinger(0), kgo.DefaultProduceTopic("t"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func createTopic(t testing.TB, client *kgo.Client, partitions int32) {
	t.Helper()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
}

// put appends n records of about 100 bytes to partition 0, each a batch.
func put(t testing.TB, client *kgo.Client, n int) {
	t.Helper()
	for i := range n {
		record := &kgo.Record{Value: fmt.Appendf(nil, "%0100d", i)}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// bounds of partition 0.
func bounds(t testing.TB, client *kgo.Client) (first, next int64) {
	t.Helper()
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	ends, err := admin.ListEndOffsets(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := starts.Lookup("t", 0)
	b, _ := ends.Lookup("t", 0)
	return a.Offset, b.Offset
}

// values reads partition 0 from its first record to its last.
func values(t testing.TB, b *Broker) []string {
	t.Helper()
	_, next := bounds(t, dial(t, b))
	client := dial(t, b, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []string
	for last := int64(-1); last < next-1; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			all = append(all, string(r.Value))
			last = r.Offset
		}
	}
	return all
}
