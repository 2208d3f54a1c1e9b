package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Root is the folder of the clone: the nearest one upwards that has go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod in this folder or above it: run the tests inside a clone")
		}
		dir = filepath.Dir(dir)
	}
}

// FreePort is a TCP port of the loopback address that nobody listens on now.
//
// It lies below the range that the kernel gives to outgoing connections, so
// that a server can be stopped and started again on it, and this process does
// not get it twice.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func freePort() (int, error) {
	for range 200 {
		port := 15000 + rand.IntN(17000)
		if _, taken := givenPorts.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", Loopback(port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port found between 15000 and 32000")
}

// givenPorts remembers which ports this process has handed out already; ports
// belong to the machine, so this is a fact about the process.
var givenPorts sync.Map

// Loopback is the address of a port on this machine, "127.0.0.1:port".
func Loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// Name is a name for things of this test on shared servers: lower case
// letters, digits and '-', unlike that of any other test or run.
func Name(t testing.TB) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, t.Name())
	return fmt.Sprintf("%.40s-%08x", clean, rand.Uint32())
}

const folderPrefix = "millrace-testkit-"

// scratch makes a folder for a server. It is not below t.TempDir, because
// other users must be able to reach it (PostgreSQL refuses to run as root),
// and its name says which process it belongs to.
func scratch() (string, error) {
	sweep()
	dir, err := os.MkdirTemp(reachable(), folderPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// reachable is a folder for temporary files that every user can reach.
func reachable() string {
	dir := os.TempDir()
	if info, err := os.Stat(dir); os.Getuid() == 0 && (err != nil || info.Mode().Perm()&0o001 == 0) {
		return "/tmp"
	}
	return dir
}

// sweep removes what killed test processes have left.
func sweep() {
	names, err := filepath.Glob(filepath.Join(reachable(), folderPrefix+"*"))
	if err != nil {
		panic("impossible, because the pattern is a constant: " + err.Error())
	}
	for _, name := range names {
		rest := strings.TrimPrefix(filepath.Base(name), folderPrefix)
		digits, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(digits)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(name) // another user's: theirs to sweep
		}
	}
}

// tail is the end of a log file, for messages.
func tail(name string) string {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "(no log)"
	}
	if err != nil {
		return err.Error()
	}
	if len(b) > 4000 {
		b = b[len(b)-4000:]
	}
	return string(b)
}
