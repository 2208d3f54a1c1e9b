package testkit_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/internal/testkit"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func scan[T any](t *testing.T, url, sql string) T {
	t.Helper()
	var v T
	if err := connect(t, url).QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestPostgresGivesEachTestItsOwnDatabase(t *testing.T) {
	a, b := testkit.Postgres(t), testkit.Postgres(t)
	if a == b {
		t.Fatalf("both are %s", a)
	}
	if _, err := connect(t, a).Exec(t.Context(), "CREATE TABLE x (v int)"); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, b, "SELECT count(*) FROM pg_class WHERE relname = 'x'"); n != 0 {
		t.Error("a table made in one database is there in the other")
	}
}

func TestPostgresFromFillsATemplateOnce(t *testing.T) {
	filled := 0
	fill := func(ctx context.Context, url string) error {
		filled++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "CREATE TABLE x AS SELECT 7 AS v")
		return errorOr(err, conn.Close(ctx))
	}
	for range 3 {
		url := testkit.PostgresFrom(t, "seven", fill)
		if v := scan[int](t, url, "SELECT v FROM x"); v != 7 {
			t.Errorf("v = %d, want 7", v)
		}
	}
	if filled != 1 {
		t.Errorf("the template was filled %d times", filled)
	}
}

func errorOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func kafkaClient(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestKafkaIsSharedAndKeepsRecords(t *testing.T) {
	addr := testkit.Kafka(t)
	if again := testkit.Kafka(t); again != addr {
		t.Errorf("two brokers, %s and %s, where one would do", addr, again)
	}
	topic := testkit.Name(t)
	client := kafkaClient(t, addr, kgo.ConsumeTopics(topic))
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	record := &kgo.Record{Topic: topic, Value: []byte("kept")}
	if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := client.PollFetches(t.Context()).Records(); len(got) != 1 || string(got[0].Value) != "kept" {
		t.Errorf("got %v", got)
	}
}

func TestKafkaComesBackAfterAKill(t *testing.T) {
	server := testkit.NewKafka(t)
	client := kafkaClient(t, server.Addr())
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "kept"); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	server.Continue()
	server.Kill()
	server.Start()
	topics, err := admin.ListTopics(t.Context(), "kept")
	if err != nil || !topics.Has("kept") {
		t.Errorf("after the kill: %v, %v", topics, err)
	}
}

func TestNamesDiffer(t *testing.T) {
	a, b := testkit.Name(t), testkit.Name(t)
	if a == b || !strings.HasPrefix(a, "testnamesdiffer-") {
		t.Errorf("%q and %q", a, b)
	}
}
