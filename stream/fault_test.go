package stream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/internal/testkit"
	"millrace/stream"
	"millrace/telemetry"
)

// Whatever the broker does to produce requests that clients get over: each
// reading is there, once, and each device's are in order.
func TestAppendsSurviveFaults(t *testing.T) {
	every := func(n int, err *kerr.Error) func(*kfake.Cluster) {
		return func(c *kfake.Cluster) {
			dice := rand.New(rand.NewPCG(1, 2)) // not every n-th: that may be the same batch each time
			c.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Err: err, Count: -1,
				When: func(kmsg.Request) bool { return dice.IntN(n) == 0 },
			})
		}
	}
	faults := map[string]func(*kfake.Cluster){
		"not leader":            every(3, kerr.NotLeaderForPartition),
		"not enough replicas":   every(2, kerr.NotEnoughReplicas),
		"storage error":         every(2, kerr.KafkaStorageError),
		"stored, then timeout":  every(3, kerr.RequestTimedOut),
		"stored, not enough":    every(3, kerr.NotEnoughReplicasAfterAppend),
		"connection is closed":  closeConnections,
		"answer is never given": swallowAnswers,
		"leaders move":          moveLeaders,
	}
	devices := []string{"d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8"}
	for name, install := range faults {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, cluster *kfake.Cluster, c stream.Config) {
				l := openLog(t, c)
				install(cluster)
				p := newProducer(t, l, stream.ProducerConfig{})
				for range 10 { // in several batches
					fillOn(t, p, devices)
				}
				if err := checkOrder(readAll(t, l.Readings()), 30, devices...); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// fillOn appends three more readings of each device, numbered on.
func fillOn(t *testing.T, p *stream.Producer, devices []string) {
	t.Helper()
	var a appends
	for i := range 3 {
		for d, device := range devices {
			p.Append(t.Context(), entry(device, next(t, device)), a.done(i*len(devices)+d))
		}
		synctest.Wait()
	}
	a.wait.Wait()
	if failed, err := a.failed(); failed > 0 {
		t.Fatal(err)
	}
}

// closeConnections closes the connection of one produce request in three.
func closeConnections(c *kfake.Cluster) {
	count := 0
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if count++; count%3 == 0 {
			return nil, errors.New("closed mid-produce"), true
		}
		return nil, nil, false
	})
}

// swallowAnswers answers one request in five never.
func swallowAnswers(c *kfake.Cluster) {
	count := 0
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		count++
		return nil, nil, count%5 == 0
	})
}

func moveLeaders(c *kfake.Cluster) {
	count := 0
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if count++; count%2 == 0 {
			c.ShufflePartitionLeaders()
		}
		return nil, nil, false
	})
}

// numbers counts a test's readings by device.
var numbers sync.Map // test and device to *int; tests do not share keys

func next(t *testing.T, device string) int {
	n, _ := numbers.LoadOrStore(t.Name()+" "+device, new(int))
	p := n.(*int)
	*p++
	return *p - 1
}

func TestAnErrorThatLastsIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, cluster *kfake.Cluster, c stream.Config) {
		l := openLog(t, c)
		p := newProducer(t, l, stream.ProducerConfig{})
		handle := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		var a appends
		for i := range 20 {
			p.Append(t.Context(), entry("d", i), a.done(i))
		}
		a.wait.Wait()
		failed, err := a.failed()
		if failed != 20 || !errors.Is(err, telemetry.ErrUnavailable) || !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Errorf("%d failed, with %v", failed, err)
		}
		handle.Remove()
		fill(t, p, 5, "d")
		if err := checkOrder(readAll(t, l.Readings()), 5, "d"); err != nil {
			t.Error(err)
		}
	})
}

// An outage is back-pressure: what is in waits, however long; then Append waits
// and TryAppend says so; a caller who gives up fails alone; and when the broker
// is back all is stored.
func TestAnOutageLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, cluster *kfake.Cluster, c stream.Config) {
		l := openLog(t, c)
		p := newProducer(t, l, stream.ProducerConfig{Buffer: 10 * 1024})
		down := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
		var a, refused, given appends
		in := 0
		for ; len(refused.results) == 0; in++ {
			done, overloaded := a.done(in), refused.done(in)
			p.TryAppend(t.Context(), entry("d", in), func(at telemetry.Position, err error) {
				if errors.Is(err, telemetry.ErrOverloaded) {
					overloaded(at, err)
					done(at, nil)
					return
				}
				done(at, err)
				refused.wait.Done()
			})
			synctest.Wait()
		}
		in-- // the last one was refused
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Append(ctx, entry("other", 0), given.done(0)) // waits a minute, gives up
		if _, err := given.failed(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v instead of the caller's deadline", err)
		}
		if n, _ := p.Buffered(); n != int64(in) {
			t.Errorf("%d of %d appends wait", n, in)
		}
		down.Remove()
		fill(t, p, 3, "later")
		a.wait.Wait()
		if failed, err := a.failed(); failed > 0 {
			t.Error(err)
		}
		if err := checkOrder(readAll(t, l.Readings()), in, "d"); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseDrains(t *testing.T) {
	bubble(t, func(t *testing.T, _ *kfake.Cluster, c stream.Config) {
		l := openLog(t, c)
		p := newProducer(t, l, stream.ProducerConfig{Linger: time.Second})
		var a, late appends
		for i := range 100 {
			p.Append(t.Context(), entry("d", i), a.done(i))
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if failed, err := a.failed(); failed > 0 || len(a.results) != 100 {
			t.Errorf("%d of %d failed: %v", failed, len(a.results), err)
		}
		p.Append(t.Context(), entry("d", 100), late.done(0))
		p.TryAppend(t.Context(), entry("d", 100), late.done(1))
		if failed, err := late.failed(); failed != 2 || !errors.Is(err, telemetry.ErrClosed) {
			t.Errorf("%d failed with %v", failed, err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	})
}

// Each done is called once on every path, also where Close cannot wait: for
// what is buffered, what is on its way and what waits for room.
func TestCloseTellsAllThatWait(t *testing.T) {
	bubble(t, func(t *testing.T, cluster *kfake.Cluster, c stream.Config) {
		l := openLog(t, c)
		p := newProducer(t, l, stream.ProducerConfig{Buffer: 8 * 1024})
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
		var a appends
		for i := range 50 {
			done := a.done(i)
			go p.Append(t.Context(), entry(fmt.Sprint("d", i), 0), done)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closed with %v", err)
		}
		a.wait.Wait()
		if failed, err := a.failed(); failed != 50 || !errors.Is(err, telemetry.ErrClosed) {
			t.Errorf("%d of 50 failed, with %v", failed, err)
		}
	})
}

// Close waits for the last done too, and not only for the client's promises.
func TestCloseWaitsForTheLastDone(t *testing.T) {
	bubble(t, func(t *testing.T, _ *kfake.Cluster, c stream.Config) {
		p := newProducer(t, openLog(t, c), stream.ProducerConfig{Linger: time.Minute})
		var told atomic.Bool
		p.Append(t.Context(), entry("d", 0), func(telemetry.Position, error) {
			time.Sleep(time.Second)
			told.Store(true)
		})
		if err := p.Close(ended(t)); !errors.Is(err, context.Canceled) {
			t.Errorf("closed with %v", err)
		}
		if !told.Load() {
			t.Error("Close has returned before done")
		}
	})
}

func TestTooLargeIsARefusal(t *testing.T) {
	bubble(t, func(t *testing.T, _ *kfake.Cluster, c stream.Config) {
		l := openLog(t, c)
		for name, config := range map[string]stream.ProducerConfig{
			"for the log": {}, "for the buffer": {Buffer: 1 << 20},
		} {
			p := newProducer(t, l, config)
			var a appends
			p.Append(t.Context(), telemetry.Entry{Device: "d", Value: make([]byte, 2<<20), Received: time.Now()}, a.done(0))
			a.wait.Wait()
			var refusal *telemetry.Refusal
			if _, err := a.failed(); !errors.As(err, &refusal) || refusal.Reason != telemetry.ReasonLimit {
				t.Errorf("%s: %v", name, err)
			}
			fill(t, p, 1, strings.Fields(name)[2])
		}
		p := newProducer(t, l, stream.ProducerConfig{})
		largest := telemetry.Entry{Device: "d", Value: make([]byte, telemetry.MaxReading), Received: time.Now()}
		var a appends
		p.Append(t.Context(), largest, a.done(0))
		a.wait.Wait()
		if _, err := a.failed(); err != nil {
			t.Errorf("the largest reading there may be: %v", err)
		}
	})
}

// Kafka is killed, mid-append, again and again: nothing acknowledged is
// missing, nothing is twice, and the appends that waited go through.
func TestKafkaIsKilled(t *testing.T) {
	kafka := testkit.NewKafka(t)
	l := openLog(t, stream.Config{Brokers: []string{kafka.Addr()}, Prefix: "kill", ConnectTimeout: 20 * time.Second})
	p := newProducer(t, l, stream.ProducerConfig{})
	const each, rounds = 3000, 2
	devices := []string{"d0", "d1", "d2", "d3"}
	var a appends
	halfway := make(chan struct{}, rounds)
	go func() {
		for i := range each * rounds {
			for d, device := range devices {
				p.Append(t.Context(), entry(device, i), a.done(i*len(devices)+d))
			}
			if i%each == each/2 {
				halfway <- struct{}{}
			}
		}
		close(halfway)
	}()
	for range rounds {
		<-halfway
		kafka.Kill()
		kafka.Start()
	}
	for range halfway { //nolint:revive // until all are appended
	}
	a.wait.Wait()
	if failed, err := a.failed(); failed > 0 {
		t.Errorf("%d failed: %v", failed, err)
	}
	if err := checkOrder(readAll(t, l.Readings()), each*rounds, devices...); err != nil {
		t.Error(err)
	}
}
