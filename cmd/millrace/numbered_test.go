package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/internal/testkit"
)

// numbered is a device that says 1, 2, 3 … as its metric n, each at a time of
// its own, until it is told to finish, and knows what was acknowledged.
//
// Where a connection is lost it goes on, on a new one, with the first number
// that was not acknowledged, as a device with a memory does.
type numbered struct {
	device string
	began  time.Time
	finish chan struct{} // closed: say no further number
	done   chan struct{} // closed when all that was said is acknowledged

	mu    sync.Mutex // protects what follows
	said  int        // the highest number ever sent
	acked int        // all up to this one are acknowledged
	err   error      // why the last session ended
}

const (
	pace   = 8 * time.Millisecond // between two numbers of one device
	window = 20                   // numbers of one device that wait for their acknowledgement
)

// session says numbers from the first that is not acknowledged until its
// connection is lost.
type session func(ctx context.Context, n *numbered) error

// numberedDevices start count devices that speak through sessions of one kind.
// They end with the test.
func numberedDevices(t *testing.T, kind string, count int, speak session) []*numbered {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var devices []*numbered
	for i := range count {
		n := &numbered{
			device: fmt.Sprintf("%s-%d", kind, i+1), began: time.Now().UTC().Truncate(time.Millisecond).Add(-time.Minute),
			finish: make(chan struct{}), done: make(chan struct{}),
		}
		go n.run(ctx, speak) // cancel below ends it
		devices = append(devices, n)
	}
	t.Cleanup(func() {
		cancel()
		for _, n := range devices {
			<-n.done
		}
	})
	return devices
}

func (n *numbered) run(ctx context.Context, speak session) {
	defer close(n.done)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := speak(ctx, n)
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
		if err == nil || ctx.Err() != nil {
			return
		}
		<-again.C
	}
}

// counts are how many numbers were said and how many of them acknowledged.
func (n *numbered) counts() (said, acked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.said, n.acked
}

func (n *numbered) saying(number int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = max(n.said, number)
}

func (n *numbered) acknowledged() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.acked++
}

// finishing says whether the device has said its last number.
func (n *numbered) finishing() bool {
	select {
	case <-n.finish:
		said, acked := n.counts()
		return said == acked
	default:
		return false
	}
}

// more says whether number may be said: new ones only until finish.
func (n *numbered) more(number int) bool {
	said, _ := n.counts()
	select {
	case <-n.finish:
		return number <= said
	default:
		return true
	}
}

// payload is the number as the device says it.
func (n *numbered) payload(number int) string {
	at := n.began.Add(time.Duration(number) * time.Millisecond)
	return fmt.Sprintf(`{"time":%q,"values":{"n":%d}}`, at.Format(time.RFC3339Nano), number)
}

// overMQTT says numbers at QoS 1, several in flight. paho could reconnect by
// itself, but then it takes what it sends again for acknowledged.
func overMQTT(broker string) session {
	return func(ctx context.Context, n *numbered) error {
		options := mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID(n.device)
		options.SetAutoReconnect(false).SetConnectTimeout(2 * time.Second).SetWriteTimeout(2 * time.Second)
		client := mqtt.NewClient(options)
		connected := client.Connect()
		<-connected.Done() // within the time above
		if err := connected.Error(); err != nil {
			return err
		}
		defer client.Disconnect(0)
		return n.publish(ctx, client)
	}
}

func (n *numbered) publish(ctx context.Context, client mqtt.Client) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	_, acked := n.counts()
	next := acked + 1
	var flying []mqtt.Token
	for !n.finishing() {
		var first <-chan struct{}
		if len(flying) > 0 {
			first = flying[0].Done()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-first:
			if err := flying[0].Error(); err != nil {
				return err
			}
			n.acknowledged()
			flying = flying[1:]
		case <-tick.C:
			if len(flying) < window && n.more(next) {
				n.saying(next)
				flying = append(flying, client.Publish("telemetry/"+n.device, 1, false, n.payload(next)))
				next++
			}
		}
	}
	return nil
}

// overHTTP says one number after the other to the given host.
func overHTTP(host string) session {
	return func(ctx context.Context, n *numbered) error {
		client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
		defer client.CloseIdleConnections()
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for !n.finishing() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			_, acked := n.counts()
			if !n.more(acked + 1) {
				continue
			}
			n.saying(acked + 1)
			if err := post(ctx, client, "http://"+host+"/v1/devices/"+n.device+"/telemetry", n.payload(acked+1)); err != nil {
				return err
			}
			n.acknowledged()
		}
		return nil
	}
}

func post(ctx context.Context, client *http.Client, url, body string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return errors.New(response.Status)
	}
	return nil
}

// sum are the numbers said and acknowledged by all of them.
func sum(devices []*numbered) (said, acked int) {
	for _, n := range devices {
		s, a := n.counts()
		said, acked = said+s, acked+a
	}
	return said, acked
}

// advance waits until each of the devices had so many numbers acknowledged
// that are new.
func advance(t *testing.T, devices []*numbered, by int) {
	t.Helper()
	want := map[*numbered]int{}
	for _, n := range devices {
		_, acked := n.counts()
		want[n] = acked + by
	}
	for _, n := range devices {
		testkit.Wait(t, fmt.Sprintf("%d more acknowledgements for %s", by, n.device), func() bool {
			_, acked := n.counts()
			return acked >= want[n]
		})
	}
}

// finished lets the devices end and waits until all is acknowledged.
func finished(t *testing.T, devices []*numbered) {
	t.Helper()
	for _, n := range devices {
		close(n.finish)
	}
	for _, n := range devices {
		select {
		case <-n.done:
		case <-time.After(time.Minute):
			said, acked := n.counts()
			n.mu.Lock()
			t.Errorf("%s: %d of %d acknowledged a minute after the last (%v)", n.device, acked, said, n.err)
			n.mu.Unlock()
		}
	}
}

// readLog is all that a topic holds, by device in the order of the log.
func readLog(t *testing.T, kafka, topic string) map[string][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		t.Fatal(err, ends.Error())
	}
	total := int64(0)
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	lines := map[string][]string{}
	for total > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			lines[string(r.Key)] = append(lines[string(r.Key)], string(r.Value))
			total--
		})
	}
	return lines
}

// checkLog: all that was acknowledged is in the log, in the order in which it
// was said. What was not acknowledged in time may be there again.
func checkLog(t *testing.T, lines map[string][]string, devices []*numbered) {
	t.Helper()
	again, count := 0, 0
	for _, n := range devices {
		last := 0
		for i, line := range lines[n.device] {
			var reading struct{ Values struct{ N int } }
			if err := json.Unmarshal([]byte(line), &reading); err != nil {
				t.Fatal(err)
			}
			number := reading.Values.N
			if number > last+1 {
				t.Errorf("%s: record %d says %d, and %d was not there before", n.device, i, number, last+1)
			}
			if number <= last {
				again++
			}
			last = max(last, number)
			count++
		}
		if said, acked := n.counts(); last < acked || last > said {
			t.Errorf("%s: the log ends with %d, %d were acknowledged and %d said", n.device, last, acked, said)
		}
	}
	t.Logf("%d records in the log, %d of them sent again by their devices", count, again)
}

// checkStored: each number is one row, and the rows of a device are in order.
func checkStored(t *testing.T, url string, devices []*numbered) {
	t.Helper()
	const rows = "select count(*) from telemetry where device = $1 and metric = 'n'"
	const inOrder = `select count(*) from (select value, row_number() over (order by time) as place
		from telemetry where device = $1 and metric = 'n') as numbers where value = place`
	for _, n := range devices {
		_, acked := n.counts()
		stored := 0
		testkit.Wait(t, fmt.Sprintf("%d rows of %s", acked, n.device), func() bool {
			stored = count(t, url, rows, n.device)
			return stored >= acked
		})
		if right := count(t, url, inOrder, n.device); stored != acked || right != acked {
			t.Errorf("%s: %d rows, %d of them where they belong; want %d", n.device, stored, right, acked)
		}
	}
}
