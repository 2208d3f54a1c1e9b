// Package testkit starts the real servers that tests run against: Apache
// Kafka, PostgreSQL, TimescaleDB (in PGlite), mosquitto, nginx, Chromium; and
// it makes their connections fail on purpose.
//
//	TestMain ──▶ Main ──▶ tests ──▶ Postgres(t) ─▶ one server a process, a database a test
//	                │               Kafka(t)    ─▶ one broker a process, a topic prefix a test
//	                ▼               NewKafka(t) ─▶ a broker of its own, to kill and stop
//	          servers end           Proxy(t, a) ─▶ a connection to cut and to slow down
//
// Its invariant: no server outlives the test process, however that ends. Each
// is a direct child with a parent-death signal, [Main] stops it in the usual
// case, and folders of processes that are gone are swept by the next one.
//
// A server that is not installed fails the test, with the remedy; nothing is
// ever skipped. The package starts no goroutine for a server, so tests may
// check for leaked goroutines as they like.
package testkit

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs the tests of a package, stops the servers they shared, and fails
// if a goroutine is left (options as in goleak). Call it from TestMain as the
// only statement; it does not return.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	shared.stop()
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintf(os.Stderr, "goroutines left behind when all tests had passed: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Wait polls cond every few milliseconds until it holds, and fails the test
// after half a minute with what was waited for. For conditions outside this
// process; inside it, wait on a channel.
func Wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if err := poll(30*time.Second, func() (bool, error) { return cond(), nil }); err != nil {
		t.Fatalf("waited for %s: %v", what, err)
	}
}

// poll calls cond until it answers true or an error, at most for the given time.
func poll(limit time.Duration, cond func() (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for {
		done, err := cond()
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not so within %v", limit)
		}
		<-tick.C
	}
}

// Stop stops the servers that the process's tests shared, for a TestMain that
// does not end in [Main].
func Stop() { shared.stop() }
