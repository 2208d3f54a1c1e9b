package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// access lets everybody in over loopback who has a password. The superuser has
// none: what only it may do is done before the server listens.
const access = `# Written by Millrace at each start.
host all all 127.0.0.0/8 scram-sha-256
host all all ::1/128     scram-sha-256
`

// initialize makes the database if there is none, and a password if there is none.
func (s *Server) initialize(ctx context.Context) error {
	password, err := readPassword(s.config.Dir)
	known := err == nil
	if errors.Is(err, fs.ErrNotExist) {
		password, err = makePassword(s.config.Dir)
	}
	if err != nil {
		return err
	}
	s.password = password
	version, err := dataVersion(s.dir)
	if err != nil {
		return err
	}
	if version == 0 {
		if err := s.create(ctx); err != nil {
			return err
		}
	} else if !known {
		s.config.Progress("the password file was gone: setting a new password")
		if err := s.single(ctx, s.dir, "ALTER ROLE "+name+" PASSWORD '"+password+"'"); err != nil {
			return fmt.Errorf("set a new password: %w", err)
		}
	}
	return s.give(filepath.Join(s.dir, "pg_hba.conf"), access)
}

// create makes the database beside its place and moves it there when it is
// whole, so that a start that was interrupted leaves nothing half made.
func (s *Server) create(ctx context.Context) error {
	s.config.Progress(fmt.Sprintf("making a database in %s, with PostgreSQL %d", s.dir, s.install.major))
	part := s.dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.Mkdir(part, 0o700); err != nil {
		return err
	}
	if !s.owner.us {
		if err := os.Chown(part, int(s.owner.uid), int(s.owner.gid)); err != nil {
			return err
		}
	}
	cmd := s.command(ctx, part, "initdb", "-D", part, "--username=postgres", "--auth=reject", "--encoding=UTF8", "--locale=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	err := s.single(
		ctx, part, "CREATE ROLE "+name+" LOGIN PASSWORD '"+s.password+"'",
		"CREATE DATABASE "+name+" OWNER "+name,
	)
	if err != nil {
		return fmt.Errorf("make role and database: %w", err)
	}
	if err := os.Remove(s.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is in the way of the database: empty it, or choose another data folder with --data: %w", s.dir, err)
	}
	return os.Rename(part, s.dir)
}

// single runs statements in a server for one, which needs no login and lets
// nobody else in.
func (s *Server) single(ctx context.Context, dir string, statements ...string) error {
	cmd := s.command(ctx, dir, "postgres", "--single", "-D", dir, "-c", "exit_on_error=on",
		"-c", "log_min_error_statement=panic", "postgres") // no passwords in what it says
	cmd.Stdin = strings.NewReader(strings.Join(statements, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// command is a program of the install, run as the owner in a folder that the
// owner can enter, with nothing of our environment.
func (s *Server) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.install.bin, program), args...)
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + s.install.bin + ":/usr/bin:/bin", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner.credential(), Setpgid: true}
	return cmd
}

// give writes a file and hands it to the owner.
func (s *Server) give(name, content string) error {
	if err := writeFile(name, content, 0o600); err != nil {
		return err
	}
	if s.owner.us {
		return nil
	}
	return os.Chown(name, int(s.owner.uid), int(s.owner.gid))
}

func passwordName(dir string) string { return dir + ".password" }

func readPassword(dir string) (string, error) {
	b, err := os.ReadFile(passwordName(dir))
	if err != nil {
		return "", fmt.Errorf("the database's password: %w", err)
	}
	password := strings.TrimSpace(string(b))
	if password == "" || strings.ContainsAny(password, "'\\\n") {
		return "", fmt.Errorf("%s holds no password: remove it, and the next start makes a new one", passwordName(dir))
	}
	return password, nil
}

func makePassword(dir string) (string, error) {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	password := base64.RawURLEncoding.EncodeToString(b[:])
	return password, writeFile(passwordName(dir), password+"\n", 0o600)
}
