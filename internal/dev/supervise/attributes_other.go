//go:build !linux

package supervise

import "syscall"

// attributes puts a child into its own process group. There is no death signal here: the next run ends what was left (Leftovers).
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
