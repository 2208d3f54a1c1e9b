package embedded

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// guard stands before the broker's appends.
//
// kfake remembers a producer's sequence before it writes the batch. When the
// write fails, the client's next try is taken for a duplicate and acknowledged,
// though nothing was stored. So the write must not fail: appends are refused
// while the disk still has room, with an error that clients retry on; and if a
// write fails nevertheless, nothing is acknowledged any more.
type guard struct {
	dir     string
	minFree int64
	free    func(string) (int64, error)
	log     *slog.Logger
	events  Events

	// mu protects what follows.
	mu     sync.Mutex
	failed string // the write that failed, or that the log is gone; for good
	full   string // why retention cannot make room, see Broker.sweep
	why    string // why appends are refused now; "": they are not
}

func newGuard(c Config) *guard {
	return &guard{dir: c.Dir, minFree: c.MinFree, free: c.free, log: c.Log, events: c.Events}
}

// faults are the answers that the guard gives in the broker's place.
func (g *guard) faults() []kfake.Fault {
	return []kfake.Fault{
		{
			Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.KafkaStorageError, Count: -1,
			When: func(kmsg.Request) bool { return g.refuses() },
		},
		// What could empty a partition is not a client's: a partition whose
		// last record is gone begins at offset 0 again after a restart.
		{Keys: []kmsg.Key{kmsg.DeleteRecords}, Err: kerr.PolicyViolation, Count: -1},
		{
			Keys: []kmsg.Key{kmsg.CreateTopics, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs},
			Err:  kerr.PolicyViolation, Count: -1, When: setsRetention,
		},
	}
}

// setsRetention says whether the request sets a topic's own retention.
func setsRetention(r kmsg.Request) bool {
	var names []string
	switch r := r.(type) {
	case *kmsg.CreateTopicsRequest:
		for _, t := range r.Topics {
			for _, c := range t.Configs {
				names = append(names, c.Name)
			}
		}
	case *kmsg.AlterConfigsRequest:
		for _, t := range r.Resources {
			for _, c := range t.Configs {
				names = append(names, c.Name)
			}
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for _, t := range r.Resources {
			for _, c := range t.Configs {
				names = append(names, c.Name)
			}
		}
	}
	for _, name := range names {
		if strings.Contains(name, "retention.") || strings.Contains(name, "cleanup.policy") {
			return true
		}
	}
	return false
}

// refuses says whether an append must be refused now. It is asked for every
// produce request, and by the ticker, so that the end of it is noticed too.
func (g *guard) refuses() bool {
	free, err := g.free(g.dir)
	g.mu.Lock()
	defer g.mu.Unlock()
	why := ""
	switch {
	case g.failed != "":
		why = g.failed
	case err != nil:
		why = err.Error()
	case free < g.minFree:
		why = fmt.Sprintf("the disk has %d MiB free, less than %d: free some", free>>20, g.minFree>>20)
	case g.full != "":
		why = g.full
	}
	g.say(why)
	return why != ""
}

// say reports a change. The caller holds mu.
func (g *guard) say(why string) {
	was := g.why
	g.why = why
	if (was == "") == (why == "") {
		return
	}
	if why != "" {
		g.log.Error("the log refuses appends; nothing that is refused is lost, devices send it again", "why", why)
	} else {
		g.log.Info("the log accepts appends again")
	}
	if g.events.Refused != nil {
		g.events.Refused(why)
	}
}

// setFull says that retention cannot make room, and why; "": it can.
func (g *guard) setFull(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.full = why
}

// lost ends the log: why says what is gone, and what to do.
func (g *guard) lost(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = why
}

// failure is why nothing more can be acknowledged, and what to do; "": all is well.
func (g *guard) failure() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

// Logf takes kfake's messages. Its failed writes are known from here only: the
// call comes from within the append, before its answer is sent.
func (g *guard) Logf(level kfake.LogLevel, format string, args ...any) {
	if level > kfake.LogLevelWarn {
		return
	}
	text := fmt.Sprintf(format, args...)
	if strings.HasPrefix(format, "persist batch") {
		g.mu.Lock()
		if g.failed == "" {
			g.failed = fmt.Sprintf("%s: a write to the log failed: %s: free the disk or mend it, and start again", g.dir, text)
		}
		g.mu.Unlock()
	}
	g.log.Warn("embedded log: " + text)
}
