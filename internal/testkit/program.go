package testkit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built once a process.
var binary once[string]

// Binary is the path of millrace, built from this clone once a test process.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary.get(func() (string, error) {
		dir, err := scratch()
		if err != nil {
			return "", err
		}
		shared.onStop(func() { _ = os.RemoveAll(dir) })
		path := filepath.Join(dir, "millrace")
		build := exec.Command("go", "build", "-o", path, "./cmd/millrace")
		build.Dir = Root(t)
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return path, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Program is a running millrace and what it has said. It ends with the test,
// and with it all that it started.
type Program struct {
	t    testing.TB
	args []string
	cmd  *exec.Cmd
	out  transcript
	done chan struct{} // closed when the process has ended
	err  error         // set before done is closed
}

// Run starts millrace with these arguments and this environment beside the
// caller's, of which it gets no MILLRACE_ but MILLRACE_TEST_.
func Run(t testing.TB, env []string, args ...string) *Program {
	t.Helper()
	p := &Program{t: t, args: args, done: make(chan struct{})}
	p.cmd = exec.Command(Binary(t), args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.Env = append(withoutMillrace(os.Environ()), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which Cleanup ends
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("millrace %s said:\n%s", strings.Join(args, " "), p.tail())
		}
	})
	return p
}

func withoutMillrace(environment []string) []string {
	var kept []string
	for _, item := range environment {
		if !strings.HasPrefix(item, "MILLRACE_") || strings.HasPrefix(item, "MILLRACE_TEST_") {
			kept = append(kept, item)
		}
	}
	return kept
}

// Pid of the process.
func (p *Program) Pid() int { return p.cmd.Process.Pid }

// Output is all it has printed so far.
func (p *Program) Output() string { return p.out.String() }

func (p *Program) tail() string {
	const most = 6000
	text := p.Output()
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

// Kill is kill -9 of the process and of all it started, as a power cut is.
func (p *Program) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// Interrupt is Ctrl-C. It answers how long the program took to end.
func (p *Program) Interrupt() time.Duration {
	p.t.Helper()
	began := time.Now()
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatal("Ctrl-C did not end the program in 30 seconds")
	}
	return time.Since(began)
}

// Says waits until the program has printed the text.
func (p *Program) Says(text string) {
	p.t.Helper()
	err := poll(3*time.Minute, func() (bool, error) {
		select {
		case <-p.done:
			if !strings.Contains(p.Output(), text) {
				return false, fmt.Errorf("it ended (%v)", p.err)
			}
		default:
		}
		return strings.Contains(p.Output(), text), nil
	})
	if err != nil {
		p.t.Fatalf("millrace %s did not say %q: %v\n%s", strings.Join(p.args, " "), text, err, p.tail())
	}
}

// Wait waits until the program has ended by itself and answers its exit code.
func (p *Program) Wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(5 * time.Minute):
		p.t.Fatalf("millrace %s does not end", strings.Join(p.args, " "))
	}
	return p.cmd.ProcessState.ExitCode()
}

// transcript is output that grows while a test reads it.
type transcript struct {
	mu   sync.Mutex // protects text
	text bytes.Buffer
}

func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
