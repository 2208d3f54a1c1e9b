//go:build !linux

package embedded

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent has no counterpart here: a server whose parent was killed is
// found and ended by the next start.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// workers answers the postmaster of the database dir, if it is left: a process
// of its number whose command line names the folder.
func workers(ctx context.Context, dir string, master int) ([]int, error) {
	out, err := exec.CommandContext(ctx, "ps", "-o", "args=", "-p", strconv.Itoa(master)).Output()
	if err != nil || !strings.Contains(string(out), dir) {
		return nil, nil // ps fails when there is no such process
	}
	return []int{master}, nil
}
