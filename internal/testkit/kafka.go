package testkit

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaVersion is the Apache Kafka that tests run against; `make deps` copies
// its jars from Maven into the clone's cache folder.
const kafkaVersion = "4.1.1"

// Kafka is the address of a real Apache Kafka, one broker in KRaft mode,
// shared by all tests of the process: name topics and groups by [Name].
func Kafka(t testing.TB) string {
	t.Helper()
	root := Root(t)
	k, err := shared.kafka.get(func() (*KafkaServer, error) {
		k, err := newKafka(root)
		if err == nil {
			shared.onStop(func() { _ = k.end() })
		}
		return k, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return k.Addr()
}

// KafkaServer is a real Apache Kafka that a test may hurt. Its methods fail
// the test themselves; they are for one goroutine at a time.
type KafkaServer struct {
	t       testing.TB // nil for the shared one, which nobody hurts
	jars    string
	dir     string
	port    int
	process *process
}

// NewKafka starts a broker of the test's own; it is gone when the test ends.
func NewKafka(t testing.TB) *KafkaServer {
	t.Helper()
	k, err := newKafka(Root(t))
	if err != nil {
		t.Fatal(err)
	}
	k.t = t
	t.Cleanup(func() {
		if err := k.end(); err != nil {
			t.Errorf("end Kafka: %v", err)
		}
	})
	return k
}

// Addr is where clients reach it, "127.0.0.1:port"; the same for all its life.
func (k *KafkaServer) Addr() string { return Loopback(k.port) }

// Kill ends it as a power cut would (SIGKILL), and returns when it is gone.
func (k *KafkaServer) Kill() {
	k.t.Helper()
	if err := k.process.stop(syscall.SIGKILL); err != nil {
		k.t.Fatalf("kill Kafka: %v", err)
	}
}

// Stop freezes it (SIGSTOP): its connections stay open and nothing answers.
func (k *KafkaServer) Stop() { k.send(syscall.SIGSTOP) }

// Continue lets it go on after Stop.
func (k *KafkaServer) Continue() { k.send(syscall.SIGCONT) }

func (k *KafkaServer) send(sig syscall.Signal) {
	k.t.Helper()
	if err := k.process.signal(sig); err != nil {
		k.t.Fatalf("signal Kafka: %v", err)
	}
}

// Start brings it back after Kill, on the same port with the same data, and
// returns when it answers.
func (k *KafkaServer) Start() {
	k.t.Helper()
	if err := k.start(); err != nil {
		k.t.Fatal(err)
	}
}

func newKafka(root string) (*KafkaServer, error) {
	jars := filepath.Join(root, ".cache", "kafka-"+kafkaVersion, "lib")
	if _, err := os.Stat(jars); err != nil {
		return nil, fmt.Errorf("no jars of Apache Kafka %s at %s: run 'make deps'", kafkaVersion, jars)
	}
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	k := &KafkaServer{jars: jars, dir: dir}
	for range 2 { // a port that was free may be taken a moment later
		if err = errors.Join(k.format(), k.start()); err == nil {
			return k, nil
		}
	}
	return nil, errors.Join(err, k.end())
}

// format writes the configuration and the empty storage of a cluster of one.
func (k *KafkaServer) format() error {
	port, err1 := freePort()
	controller, err2 := freePort()
	if err := errors.Join(err1, err2, os.RemoveAll(k.logs())); err != nil {
		return err
	}
	k.port = port
	settings := strings.Join([]string{
		"process.roles=broker,controller", "node.id=1",
		"listeners=PLAINTEXT://" + Loopback(port) + ",CONTROLLER://" + Loopback(controller),
		"controller.listener.names=CONTROLLER", "controller.quorum.bootstrap.servers=" + Loopback(controller),
		"log.dirs=" + k.logs(), "auto.create.topics.enable=false", "num.partitions=4",
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=4", "share.coordinator.state.topic.replication.factor=1",
		"transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "transaction.state.log.num.partitions=4",
		"group.initial.rebalance.delay.ms=0", "broker.session.timeout.ms=3000", "broker.heartbeat.interval.ms=500",
	}, "\n")
	if err := os.WriteFile(k.config(), []byte(settings+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(k.dir, "log4j2.properties"), []byte(kafkaLogging), 0o644); err != nil {
		return err
	}
	out, err := k.java("kafka.tools.StorageTool", "format", "--standalone", "--cluster-id", clusterID(), "--config", k.config()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format Kafka's storage: %w: %s", err, out)
	}
	return nil
}

const kafkaLogging = `rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c: %m%n
`

func (k *KafkaServer) config() string { return filepath.Join(k.dir, "server.properties") }
func (k *KafkaServer) logs() string   { return filepath.Join(k.dir, "logs") }

func clusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	id[0] &= 0x7f           // no leading '-', which would be an option
	return base64.RawURLEncoding.EncodeToString(id[:])
}

func (k *KafkaServer) java(args ...string) *exec.Cmd {
	args = append([]string{
		"-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
		"-Dlog4j2.configurationFile=" + filepath.Join(k.dir, "log4j2.properties"), "-cp", filepath.Join(k.jars, "*"),
	}, args...)
	cmd := exec.Command("java", args...)
	cmd.Dir = k.dir
	return cmd
}

func (k *KafkaServer) start() error {
	p, err := start("kafka", k.java("kafka.Kafka", k.config()), filepath.Join(k.dir, "kafka.log"), syscall.SIGKILL)
	if err != nil {
		return fmt.Errorf("%w (Java 17 or newer is needed)", err)
	}
	k.process = p
	return p.ready(k.answers)
}

// answers: a client that asks for topics is told of a broker.
func (k *KafkaServer) answers() bool {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addr()), kgo.RequestRetries(0), kgo.DialTimeout(time.Second))
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return client.Ping(ctx) == nil
}

// end stops it for good.
func (k *KafkaServer) end() error {
	var err error
	if k.process != nil {
		err = k.process.stop(syscall.SIGKILL)
	}
	return errors.Join(err, os.RemoveAll(k.dir))
}
