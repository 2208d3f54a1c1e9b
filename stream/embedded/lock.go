package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Names in the log's directory.
const (
	lockName       = "lock"
	metaName       = "meta.json"
	topicsName     = "topics.json"
	partitionsName = "partitions"
	sequencesName  = "seq_windows.json"
	snapshotName   = "snapshot.json"
)

// lockDir makes the directory if it is missing, and locks it against other
// processes: two brokers in one directory would destroy the log. The lock ends
// with the file's closing, and so with the process, however it ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the log's directory: %w", err)
	}
	if err := ours(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the log's directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by process %s: stop it, or use another directory (--data)", dir, holder(f))
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0) // for the message above only
	}
	return f, nil
}

// gone says whether the directory is not there any more, or is another one: a
// folder made anew, or the empty one under a disk that was unmounted. The lock's
// file is in ours for as long as we run.
func gone(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, lockName))
	return errors.Is(err, fs.ErrNotExist)
}

func holder(f *os.File) string {
	pid := make([]byte, 16)
	n, _ := f.ReadAt(pid, 0)
	if n == 0 {
		return "unknown"
	}
	return string(bytes.TrimSpace(pid[:n]))
}

// ours says whether the directory is a log, or empty.
func ours(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the log's directory: %w", err)
	}
	names := make(map[string]bool)
	for _, e := range entries {
		names[e.Name()] = true
	}
	delete(names, lockName)
	delete(names, metaName+".tmp") // a first start that was killed
	switch {
	case len(names) == 0 || names[metaName] && names[topicsName]:
		return nil
	case names[metaName] && names[partitionsName]:
		return fmt.Errorf("%s: %s is missing from the log: restore it from a copy, or move the directory away to start with an empty log", dir, topicsName)
	case names[metaName]:
		return nil
	}
	return fmt.Errorf("%s is not a log: it is not empty and has no %s: use another directory (--data)", dir, metaName)
}

// freeSpace of the disk that holds dir, in bytes, for other users than root.
func freeSpace(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
