package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Config of an embedded log. Only Dir is needed.
type Config struct {
	// Addr to listen on, host:port; "" is 127.0.0.1:9092. The host must be one
	// that clients can reach: it is what the broker tells them.
	Addr string
	// Dir holds the log. It is made if missing, and locked.
	Dir string
	// NoSync leaves writing to the operating system: what was acknowledged
	// survives a crash of the process, but not one of the machine.
	NoSync bool
	// RetentionBytes bounds the whole log on disk; 0 is 1 GiB, the least 64 MiB.
	RetentionBytes int64
	// RetentionTime bounds the age of records; 0 is seven days. The newest two
	// segments (4 MiB) of a partition stay, however old.
	RetentionTime time.Duration
	// Index bounds the memory of the log's index, in bytes: the broker keeps an
	// entry for each batch, however small. 0 is 12 MiB.
	Index int64
	// MinFree is the free space on the disk, in bytes, below which appends are
	// refused; 0 is 256 MiB.
	MinFree int64
	// Readers are those whose unread records retention does not remove. Where
	// they keep the log from shrinking to RetentionBytes, appends are refused.
	Readers []Reader
	Log     *slog.Logger // nil discards
	Events  Events

	// segment is the size of a segment, and free the free space of a
	// directory's disk. Tests set them.
	segment int64
	free    func(dir string) (int64, error)
}

// Reader is a consumer group that reads a topic.
type Reader struct{ Topic, Group string }

// Events are told what happens; a nil field is not called. They must not block.
type Events struct {
	// Refused: appends are refused from now on, and why; or accepted again ("").
	Refused func(why string)
	// Removed: retention has removed this many bytes.
	Removed func(bytes int64)
	// Size, once a second: the log on disk, its index in memory (estimated) and
	// the free space of the disk, in bytes.
	Size func(log, index, free int64)
}

const (
	defaultAddr      = "127.0.0.1:9092"
	defaultRetention = 1 << 30
	leastRetention   = 64 << 20
	defaultAge       = 7 * 24 * time.Hour
	defaultIndex     = 12 << 20
	defaultMinFree   = 256 << 20
	// segmentBytes: retention removes whole segments, and a restart reads one
	// of each partition into memory at a time.
	segmentBytes = 2 << 20
	// indexEntry is what kfake keeps in memory for a batch: 72 bytes, and a
	// growing slice's slack.
	indexEntry = 88
	tick       = time.Second
)

func (c Config) withDefaults() (Config, error) {
	c.Addr = cmp.Or(c.Addr, defaultAddr)
	c.RetentionBytes = cmp.Or(c.RetentionBytes, defaultRetention)
	c.RetentionTime = cmp.Or(c.RetentionTime, defaultAge)
	c.Index = cmp.Or(c.Index, defaultIndex)
	c.MinFree = cmp.Or(c.MinFree, defaultMinFree)
	c.segment = cmp.Or(c.segment, segmentBytes)
	if c.free == nil {
		c.free = freeSpace
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dir == "" {
		return c, errors.New("no directory is given for the log")
	}
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return c, fmt.Errorf("listen on %s: %w: use host:port (--kafka-listen)", c.Addr, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return c, fmt.Errorf("listen on %s: name the one address that clients shall use, not all of them (--kafka-listen)", c.Addr)
	}
	if c.segment == segmentBytes && c.RetentionBytes < leastRetention {
		return c, fmt.Errorf("retention of %d bytes is less than %d: allow more", c.RetentionBytes, leastRetention)
	}
	return c, nil
}

// Broker is a running embedded log. It is safe for concurrent use.
type Broker struct {
	config  Config
	cluster *kfake.Cluster
	guard   *guard
	lock    *os.File
	closing sync.Once
}

// Start opens the log in Dir, or makes it, and serves it at Addr. After a crash
// it first puts the log in order. Errors name what is wrong and the remedy: a
// port or a directory in use, a directory that is something else, a log that
// cannot be read.
func Start(_ context.Context, c Config) (*Broker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("embedded log: %w", err)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded log: %w", err)
	}
	b := &Broker{config: c, lock: lock, guard: newGuard(c)}
	if err := b.start(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("embedded log: %w", err)
	}
	return b, nil
}

func (b *Broker) start() error {
	c := b.config
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return fmt.Errorf("%w: is another Kafka running? (--kafka-listen chooses another address)", err)
	}
	crashed, err := recoverDir(c.Dir)
	if err != nil {
		_ = listener.Close()
		return err
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("millrace"),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return listener, nil }),
		kfake.DataDir(c.Dir),
		kfake.WithLogger(b.guard),
		kfake.BrokerConfigs(map[string]string{
			// Retention is ours (retention.go): kfake's removes what is read
			// late, goes by record timestamps, and may empty a topic, whose
			// offsets then begin at 0 again.
			"log.retention.ms":    "-1",
			"log.retention.bytes": "-1",
			"log.segment.bytes":   strconv.FormatInt(c.segment, 10),
		}),
	}
	if !c.NoSync {
		opts = append(opts, kfake.SyncWrites())
	}
	if b.cluster, err = kfake.NewCluster(opts...); err != nil {
		_ = listener.Close()
		return fmt.Errorf("%s: %w: restore it from a copy, or move it away to start with an empty log", c.Dir, err)
	}
	b.cluster.Fault(b.guard.faults()...)
	if crashed {
		c.Log.Warn("the log was not closed properly; it was put in order", "dir", c.Dir)
	}
	// Opening reads every segment once. What that took goes back at once, not
	// some minutes later: memory at rest is part of the bargain.
	debug.FreeOSMemory()
	return nil
}

// Addr is where the broker listens, host:port.
func (b *Broker) Addr() string { return b.cluster.ListenAddrs()[0] }

// Run applies retention and watches the disk until ctx ends, then closes the
// broker. It ends with an error when the disk has refused a write, or when the
// log's directory is gone: from then on nothing more is acknowledged, because
// the broker would take what a client sends again for a duplicate of what it
// could not store.
func (b *Broker) Run(ctx context.Context) error {
	defer b.Close()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	said := ""
	for {
		if gone(b.config.Dir) {
			b.guard.lost(b.config.Dir + " is gone, and the log with it: put the folder back in place of what stands there now " +
				"(mount its disk, or restore it from a copy), or accept an empty log; then start again")
		}
		if why := b.guard.failure(); why != "" {
			return fmt.Errorf("embedded log: %s", why)
		}
		said = b.retain(said)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// retain applies retention. It logs why that fails, unless that is what was
// said last: it is tried every second. now is what to say next time.
func (b *Broker) retain(said string) (now string) {
	err := b.sweep(time.Now())
	if err == nil {
		return ""
	}
	if now = err.Error(); now != said {
		b.config.Log.Error("retention cannot be applied", "dir", b.config.Dir, "err", err)
	}
	return now
}

// Close ends all connections, writes the log's state and lets go of the
// directory. What it returns from is on disk. It may be called more than once.
func (b *Broker) Close() {
	b.closing.Do(func() {
		b.cluster.Close() // makes the folder anew, with an empty log, if it is gone
		if b.guard.failure() != "" {
			forgetSequences(b.config.Dir)
		}
		_ = b.lock.Close()
	})
}
