package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// process is a server started by this test process.
//
// It is watched without a goroutine: whether it has ended is asked of the
// kernel when somebody wants to know.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // file with what it printed

	mu    sync.Mutex // protects ended
	ended bool       // it has ended and the kernel has forgotten its number
}

// start runs a command with its output in the file log. The command dies with
// this process by the signal death.
func start(name string, cmd *exec.Cmd, log string, death syscall.Signal) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithParent(cmd.SysProcAttr, death)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &process{name: name, cmd: cmd, log: log}, nil
}

// signal reaches the process only while it is there.
func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reapLocked() {
		return nil
	}
	return syscall.Kill(p.cmd.Process.Pid, sig)
}

// gone tells whether the process has ended.
func (p *process) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reapLocked()
}

func (p *process) reapLocked() bool {
	if p.ended {
		return true
	}
	pid, err := syscall.Wait4(p.cmd.Process.Pid, nil, syscall.WNOHANG, nil)
	p.ended = pid == p.cmd.Process.Pid || errors.Is(err, syscall.ECHILD)
	return p.ended
}

// ready waits until answers holds, and fails at once if the process ends.
func (p *process) ready(answers func() bool) error {
	err := poll(90*time.Second, func() (bool, error) {
		if p.gone() {
			return false, errors.New("it ended")
		}
		return answers(), nil
	})
	if err != nil {
		return fmt.Errorf("%s does not answer: %w; the end of its log:\n%s", p.name, err, tail(p.log))
	}
	return nil
}

// stop asks the process to end by a signal, and kills it after ten seconds.
func (p *process) stop(sig syscall.Signal) error {
	if err := p.signal(sig); err != nil {
		return err
	}
	if poll(10*time.Second, func() (bool, error) { return p.gone(), nil }) == nil {
		return nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return poll(10*time.Second, func() (bool, error) { return p.gone(), nil })
}

// sharedServers are those which all tests of the process use. There is one
// value of it, because servers belong to the process, as its children do.
type sharedServers struct {
	mu      sync.Mutex // protects stops
	stops   []func()
	kafka   once[*KafkaServer]
	primary once[*postgres]
}

var shared sharedServers

func (s *sharedServers) onStop(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stops = append(s.stops, f)
}

func (s *sharedServers) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range slices.Backward(s.stops) {
		f()
	}
	s.stops = nil
}

// once makes a value on first use; everybody gets the same value or error.
type once[T any] struct {
	sync.Once
	value T
	err   error
}

func (o *once[T]) get(make func() (T, error)) (T, error) {
	o.Do(func() { o.value, o.err = make() })
	return o.value, o.err
}

// serverUser is who runs the servers that refuse root: nil for this process's
// own user, who is not root.
func serverUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("this is root, and there is no user postgres or nobody to run servers as")
}

// give hands a folder with all in it to a user; nobody to give to is fine.
func give(dir string, to *syscall.Credential) error {
	if to == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(to.Uid), int(to.Gid))
	})
}

// find is the path of a program: in PATH, or where Debian keeps servers.
func find(name, remedy string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: %s", name, remedy)
}
