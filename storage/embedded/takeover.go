package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lock takes the database for this process; the kernel gives it back when the
// process ends, however it does.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(file) // for the message only
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		return nil, fmt.Errorf("another process%s uses the database %s: stop it, or choose another data folder with --data",
			strings.TrimRight(" "+string(holder), "\n "), strings.TrimSuffix(file, ".lock"))
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // closing it unlocks
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte("("+strconv.Itoa(os.Getpid())+")\n"), 0)
	return err
}

// postmaster is what a server writes about itself into its data folder.
type postmaster struct {
	pid        int
	host, port string
	ready      bool
}

// readPostmaster reads postmaster.pid, whose lines are: process number, data
// folder, start time, port, socket folder, address, shared memory, state.
func readPostmaster(dir string) (postmaster, error) {
	b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return postmaster{}, err
	}
	lines := strings.Split(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid < 1 {
		return postmaster{}, fmt.Errorf("postmaster.pid begins with %q", lines[0])
	}
	if len(lines) < 8 {
		return postmaster{pid: pid}, nil // it is still starting
	}
	return postmaster{pid: pid, port: lines[3], host: lines[5], ready: strings.TrimSpace(lines[7]) == "ready"}, nil
}

// alive tells whether a process exists, whoever's it is.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// takeOver ends what a killed process has left running on the database, and
// removes the traces by which the next server would believe that it still runs.
// The lock is held: nobody starts a server here meanwhile.
func (s *Server) takeOver(ctx context.Context) error {
	state, err := readPostmaster(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	left, err := workers(ctx, s.dir, state.pid)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		s.config.Progress("shutting down the server that an earlier run has left behind")
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if left, err = s.end(ctx, left, sig); err != nil || len(left) == 0 {
			break
		}
	}
	if err != nil || len(left) > 0 {
		return errors.Join(err, fmt.Errorf("processes %v still run on the database %s: end them first", left, s.dir))
	}
	// Its number may be another process's by now, and PostgreSQL would not start.
	if err := os.Remove(filepath.Join(s.dir, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// end signals processes and answers which are left some seconds later.
func (s *Server) end(ctx context.Context, pids []int, sig syscall.Signal) ([]int, error) {
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return pids, fmt.Errorf("end process %d: %w", pid, err)
		}
		_ = syscall.Kill(pid, syscall.SIGCONT) // one that was stopped would not hear it
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(fastShutdown)
	for len(pids) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return pids, ctx.Err()
		case <-deadline:
			return pids, nil
		}
		var err error
		if pids, err = workers(ctx, s.dir, pids[0]); err != nil {
			return pids, err
		}
	}
	return nil, nil
}
