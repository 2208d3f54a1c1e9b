package stream_test

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/internal/testkit"
	"millrace/stream"
	"millrace/stream/embedded"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// bubble runs f in a bubble, where time costs nothing, with a broker in it.
func bubble(t *testing.T, f func(*testing.T, *kfake.Cluster, stream.Config)) {
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		cluster, err := kfake.NewCluster(kfake.Ports(9092, 9093, 9094), kfake.ListenFn(network.Listen))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		f(t, cluster, stream.Config{
			Brokers: []string{"localhost:9092"}, Prefix: "test",
			Options: []kgo.Opt{kgo.Dialer(network.DialContext)},
		})
	})
}

func TestExerciseInABubble(t *testing.T) {
	for name, exercise := range exercises {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *kfake.Cluster, c stream.Config) { exercise(t, c) })
		})
	}
}

func TestExerciseOnKafka(t *testing.T) {
	broker := testkit.Kafka(t)
	for name, exercise := range exercises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exercise(t, stream.Config{Brokers: []string{broker}, Prefix: testkit.Name(t), ConnectTimeout: 20 * time.Second})
		})
	}
}

func TestExerciseOnTheEmbeddedLog(t *testing.T) {
	b, err := embedded.Start(t.Context(), embedded.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for name, exercise := range exercises {
		switch name {
		case "cursors that are gone", "retention has passed":
			continue // they delete records as a client, which this broker refuses
		}
		t.Run(name, func(t *testing.T) {
			exercise(t, stream.Config{Brokers: []string{b.Addr()}, Prefix: strings.ReplaceAll(name, " ", "-")})
		})
	}
}

func TestOpenSaysWhenThereIsNoKafka(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for _, addr := range []string{silent.Addr().String(), closed.Addr().String(), "no.such.host.invalid:9092"} {
		began := time.Now()
		_, err := stream.Open(t.Context(), stream.Config{Brokers: []string{addr}, ConnectTimeout: time.Second})
		if err == nil {
			t.Fatal("opened nothing")
		}
		for _, part := range []string{"kafka " + addr + ": cannot connect: ", "is it running? (--kafka)"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: took %v", addr, took)
		}
		t.Log(err)
	}
}
