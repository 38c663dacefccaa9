package postgres

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal does nothing: macOS has no death signal. A server that outlives its keyward is stopped at the next start.
func setDeathSignal(*syscall.SysProcAttr) {}

// childrenOf lists the child processes of a process.
func childrenOf(parent int) []int {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=").Output() // Without a context: it returns at once, and is used while stopping.
	if err != nil {
		return nil
	}
	var children []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(fields[0]); err == nil {
				children = append(children, pid)
			}
		}
	}
	return children
}

// alive tells whether a process runs. EPERM means that it does, as somebody else.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// runsIn tells whether the process is a server of ours with this data directory.
func runsIn(pid int, data string) bool {
	out, err := exec.Command("ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output() // Without a context: it returns at once.
	return err == nil && strings.Contains(string(out), "-D "+data+" ")
}
