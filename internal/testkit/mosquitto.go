package testkit

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Broker is a mosquitto that a test may stop and start again.
type Broker struct {
	t       testing.TB
	dir     string
	port    int
	process *process
}

// Mosquitto starts Debian's MQTT broker for this test, open to everybody on
// loopback. The lines of conf are added to its configuration.
func Mosquitto(t testing.TB, conf ...string) *Broker {
	t.Helper()
	dir, err := scratch()
	if err != nil {
		t.Fatal(err)
	}
	b := &Broker{t: t, dir: dir, port: FreePort(t)}
	t.Cleanup(func() {
		if b.process != nil {
			b.Kill()
		}
		_ = os.RemoveAll(dir)
	})
	lines := append([]string{
		"listener " + strconv.Itoa(b.port) + " 127.0.0.1",
		"allow_anonymous true", "persistence true", "autosave_interval 1", "autosave_on_changes true",
		"persistence_location " + dir + "/", "log_dest stderr",
	}, conf...)
	if err := os.WriteFile(b.conf(), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	as, err := serverUser()
	if err != nil {
		t.Fatal(err)
	}
	if err := give(dir, as); err != nil {
		t.Fatal(err)
	}
	b.Start()
	return b
}

// Addr is where clients reach it, "127.0.0.1:port"; the same for all its life.
func (b *Broker) Addr() string { return Loopback(b.port) }

func (b *Broker) conf() string { return filepath.Join(b.dir, "mosquitto.conf") }

// Start brings it back after Kill or Shutdown, with the sessions it has kept,
// and returns when it answers.
func (b *Broker) Start() {
	b.t.Helper()
	program, err := find("mosquitto", "run 'make deps'")
	if err != nil {
		b.t.Fatal(err)
	}
	as, err := serverUser()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", b.conf())
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	b.process, err = start("mosquitto", cmd, filepath.Join(b.dir, "mosquitto.log"), syscall.SIGKILL)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.process.ready(func() bool { return accepts(b.Addr()) }); err != nil {
		b.t.Fatal(err)
	}
}

// Kill ends it at once; it forgets what it had not yet saved.
func (b *Broker) Kill() { b.end(syscall.SIGKILL) }

// Shutdown ends it in order; it saves sessions and queues first.
func (b *Broker) Shutdown() { b.end(syscall.SIGTERM) }

func (b *Broker) end(sig syscall.Signal) {
	b.t.Helper()
	if err := b.process.stop(sig); err != nil {
		b.t.Fatalf("end mosquitto: %v", err)
	}
}

// accepts tells whether somebody listens at addr.
func accepts(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
