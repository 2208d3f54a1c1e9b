package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lock makes the data folder this process's own until it ends, however it
// ends: the kernel takes the lock back.
func (f *dataFlag) lock() (release func(), err error) {
	if err := os.MkdirAll(f.Data, 0o711); err != nil {
		return nil, fmt.Errorf("--data: cannot make the folder: %w", err)
	}
	file, err := os.OpenFile(f.path("up.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data: cannot write into the folder: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		b := f.find()
		return nil, fmt.Errorf("--data: millrace already runs with %s (process %d, http://%s/): stop it, or choose another folder",
			f.Data, b.PID, b.HTTP)
	}
	return func() { _ = file.Close() }, nil
}
