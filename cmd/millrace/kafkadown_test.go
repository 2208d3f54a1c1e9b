package main_test

import (
	"bufio"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"millrace/internal/testkit"
)

// roles are processes of single roles beside a Kafka that the test hurts.
type roles struct {
	t           *testing.T
	kafka       *testkit.KafkaServer
	mqtt, doors string // of ingest: MQTT and HTTP
	store       string // of the sink: HTTP
}

func newRoles(t *testing.T) *roles {
	t.Helper()
	r := &roles{t: t, kafka: testkit.NewKafka(t)}
	for _, address := range []*string{&r.mqtt, &r.doors, &r.store} {
		*address = testkit.Loopback(testkit.FreePort(t))
	}
	return r
}

func (r *roles) ingest() *testkit.Program {
	r.t.Helper()
	p := testkit.Run(r.t, nil, "ingest", "--kafka", r.kafka.Addr(), "--mqtt", r.mqtt, "--http", r.doors)
	ready(r.t, r.doors)
	return p
}

func (r *roles) sink(postgres string) *testkit.Program {
	r.t.Helper()
	p := testkit.Run(r.t, nil, "sink", "--kafka", r.kafka.Addr(), "--postgres", postgres, "--http", r.store)
	ready(r.t, r.store)
	return p
}

// ready waits until the process at this address has all it needs.
func ready(t *testing.T, address string) {
	t.Helper()
	testkit.Wait(t, address+" to be ready", func() bool { return isReady(address) == http.StatusOK })
}

// isReady is what /readyz answers, 0 if nothing does.
func isReady(address string) int {
	response, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// metric is the sum of a metric's values over its labels, -1 if the process
// does not have it.
func metric(t *testing.T, address, name string) float64 {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	total, found := 0.0, false
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		labelled, value, _ := strings.Cut(lines.Text(), " ")
		if series, _, _ := strings.Cut(labelled, "{"); series != name {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		total, found = total+number, true
	}
	if !found {
		return -1
	}
	return total
}

// claimed waits until the sink at this address has its partitions. Those of a
// sink that was killed are free only when Kafka has not heard of it for long.
func claimed(t *testing.T, address string) {
	t.Helper()
	testkit.Wait(t, "the sink to have its partitions", func() bool {
		return metric(t, address, "millrace_log_partitions_claimed") == 2*8
	})
}

// hostOf is the host and port of a URL.
func hostOf(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// TestKafkaIsKilled: a calm kill hides the hole, so Kafka is stalled first,
// with appends under way, and then killed. Nothing is acknowledged meanwhile,
// and nothing that was is missing afterwards.
func TestKafkaIsKilled(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	r.ingest()
	devices := numberedDevices(t, "van", 4, overMQTT(r.mqtt))
	advance(t, devices, 200)

	r.kafka.Stop()
	held := r.hold(devices)
	testkit.Wait(t, "ingest to say that Kafka does not answer", func() bool { return isReady(r.doors) == http.StatusServiceUnavailable })
	r.kafka.Kill()
	testkit.Wait(t, "ingest to say that Kafka is gone", func() bool { return isReady(r.doors) == http.StatusServiceUnavailable })
	if _, acked := sum(devices); acked != held {
		t.Errorf("%d messages were acknowledged while Kafka was away", acked-held)
	}
	r.kafka.Start()
	advance(t, devices, 200)

	finished(t, devices)
	checkLog(t, readLog(t, r.kafka.Addr(), "millrace.readings"), devices)
}

// hold waits until all that is not acknowledged lies in ingest and waits for
// Kafka, and answers how many were acknowledged.
func (r *roles) hold(devices []*numbered) int {
	r.t.Helper()
	held := 0
	testkit.Wait(r.t, "all that is under way to wait for Kafka", func() bool {
		said, acked := sum(devices)
		held = acked
		return said-acked == len(devices)*window && int(metric(r.t, r.doors, "millrace_log_appends_pending")) == said-acked
	})
	return held
}

// TestEverythingIsKilledOnce: ingest in the middle of its appends, Kafka
// stalled and killed behind it, the sink, and the sink's way to the database.
func TestEverythingIsKilledOnce(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	postgres := testkit.Postgres(t)
	must(t, "migrate", "--postgres", postgres)
	database := testkit.Proxy(t, hostOf(t, postgres))
	doors, sink := r.ingest(), r.sink(strings.Replace(postgres, hostOf(t, postgres), database.Addr(), 1))
	devices := numberedDevices(t, "bus", 4, overMQTT(r.mqtt))
	advance(t, devices, 100)

	doors.Kill()
	doors = r.ingest()
	advance(t, devices, 100)
	database.Cut()
	advance(t, devices, 100) // the doors do not need the database
	database.Restore()
	stored := count(t, postgres, "select count(*) from telemetry")
	testkit.Wait(t, "the sink to go on", func() bool { return count(t, postgres, "select count(*) from telemetry") > stored })

	r.kafka.Stop()
	r.hold(devices)
	doors.Kill() // with everything under way
	r.kafka.Kill()
	sink.Kill()
	r.kafka.Start()
	r.ingest()
	r.sink(postgres)
	advance(t, devices, 100)

	finished(t, devices)
	checkLog(t, readLog(t, r.kafka.Addr(), "millrace.readings"), devices)
	claimed(t, r.store)
	checkStored(t, postgres, devices)
	must(t, "verify", "--kafka", r.kafka.Addr(), "--postgres", postgres)
}
