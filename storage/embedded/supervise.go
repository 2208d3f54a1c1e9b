package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	fastShutdown      = 5 * time.Second  // for connections to be cut and buffers written
	immediateShutdown = 2 * time.Second  // for the processes to end without that
	answering         = 60 * time.Second // for a start, reading the write-ahead log included
	shortestPause     = 100 * time.Millisecond
	longestPause      = 10 * time.Second
	logLimit          = 4 << 20 // bytes of the log kept over a start; as many again in the file before it
)

// settings make the server safe first, and then quick at taking large COPYs.
// Compiling queries (jit) costs more than it brings on queries of this size.
func (s *Server) settings() []string {
	pairs := []string{
		"listen_addresses=" + s.host, "port=" + s.port, "unix_socket_directories=",
		"fsync=on", "synchronous_commit=on", "full_page_writes=on",
		"password_encryption=scram-sha-256", "max_connections=60",
		"shared_buffers=128MB", "max_wal_size=2GB", "checkpoint_timeout=15min", "jit=off",
		"timezone=UTC", "log_timezone=UTC", "log_line_prefix=%m [%p] ", "log_checkpoints=off",
		"log_min_error_statement=panic", "logging_collector=off",
	}
	var args []string
	for _, pair := range pairs {
		args = append(args, "-c", pair)
	}
	return args
}

// supervise starts the server, tells of the first start, and starts it again
// whenever it ends, until Close.
//
// It stays on its thread: the kernel ends the server together with the thread
// that started it, so that thread must live as long as the server shall.
func (s *Server) supervise(first chan<- error) {
	runtime.LockOSThread()
	defer close(s.ended)
	pause := shortestPause
	for {
		began := time.Now()
		cmd, exited, err := s.launch()
		if first != nil {
			first <- err
			if err != nil {
				return
			}
			first = nil
		}
		if err == nil {
			s.config.Events.Up(time.Since(began))
			select {
			case err = <-exited:
			case <-s.closing:
				s.shutdown(cmd, exited)
				return
			}
		}
		if time.Since(began) > time.Minute {
			pause = shortestPause // it had run well
		}
		if !s.wait(err, pause) {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// wait reports a server that ended and pauses before the next start; false: closing.
func (s *Server) wait(err error, pause time.Duration) bool {
	select {
	case <-s.closing:
		return false
	default:
	}
	s.config.Log.Error("PostgreSQL ended and will be started again", slog.Any("error", err), slog.Duration("pause", pause))
	s.config.Events.Down(err)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closing:
		return false
	}
}

// launch starts the server and waits until it answers. What it gives back
// tells when it ends; on an error nothing is left running.
func (s *Server) launch() (*exec.Cmd, <-chan error, error) {
	log, err := s.openLog()
	if err != nil {
		return nil, nil, err
	}
	defer log.Close() // the child has its own
	cmd := s.command(context.Background(), s.dir, "postgres", append([]string{"-D", s.dir}, s.settings()...)...)
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd.SysProcAttr, syscall.SIGINT)
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- ended(cmd.Wait()) }() // ends with the server
	if err := s.answers(cmd.Process.Pid, exited); err != nil {
		s.shutdown(cmd, exited)
		return nil, nil, fmt.Errorf("PostgreSQL does not start: %w; the end of %s:\n%s", err, log.Name(), lastLines(log.Name()))
	}
	return cmd, exited, nil
}

// ended turns every end into an error: the server has no reason to.
func ended(err error) error {
	if err == nil {
		return errors.New("it was shut down by somebody else")
	}
	return err
}

// answers waits until the server's own state file says that it is ready.
func (s *Server) answers(pid int, exited chan error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(answering)
	for {
		if state, err := readPostmaster(s.dir); err == nil && state.pid == pid && state.ready {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-exited:
			exited <- err // for the shutdown, which waits for it
			return err
		case <-s.closing:
			return errors.New("closed before it was ready")
		case <-deadline:
			return fmt.Errorf("not ready after %v", answering)
		}
	}
}

// shutdown ends the server, ever harder, and returns when it is gone.
func (s *Server) shutdown(cmd *exec.Cmd, exited <-chan error) {
	for _, step := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGINT, fastShutdown}, {syscall.SIGQUIT, immediateShutdown}} {
		if err := cmd.Process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			s.config.Log.Warn("signal PostgreSQL", slog.Any("error", err))
		}
		timer := time.NewTimer(step.limit)
		select {
		case <-exited:
			timer.Stop()
			return
		case <-timer.C:
			s.config.Log.Warn("PostgreSQL is slow to shut down", slog.String("after", step.signal.String()))
		}
	}
	_ = cmd.Process.Kill() // it may have ended just now
	<-exited
}

// openLog opens the server's log, in the data folder for the user to find, and
// puts it aside when it has become long.
func (s *Server) openLog() (*os.File, error) {
	file := filepath.Join(filepath.Dir(s.config.Dir), "postgres.log")
	if info, err := os.Stat(file); err == nil && info.Size() > logLimit {
		if err := os.Rename(file, file+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

func lastLines(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}
