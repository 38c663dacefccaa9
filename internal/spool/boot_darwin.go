package spool

import "syscall"

// machineBootID is a random UUID that the kernel makes at each boot. kern.boottime is not used: it moves when the
// clock is set.
func machineBootID() (string, error) { return syscall.Sysctl("kern.bootsessionuuid") }
