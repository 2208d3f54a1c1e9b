package testkit

import "syscall"

// dieWithParent lets the kernel end the child when this process is gone.
//
// The kernel goes by the thread that started the child. The Go runtime ends a
// thread only when a goroutine locked to it returns, so a thread that started
// a child while no goroutine was locked to it stays as long as the process.
func dieWithParent(attr *syscall.SysProcAttr, death syscall.Signal) {
	attr.Pdeathsig = death
	attr.Setpgid = true // a Ctrl-C goes to the tests, which end the servers
}
