//go:build !linux

package testkit

import "syscall"

// dieWithParent does what can be done without a parent-death signal: the child
// stays in the process group of the tests, and a Ctrl-C ends both.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
