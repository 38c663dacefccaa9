package supervise

import "syscall"

// attributes puts a child into its own process group and has the kernel kill it when this process dies. SIGKILL and not SIGTERM: a
// drain without its supervisor would keep the ports of the next run.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
