package postgres

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal makes the kernel stop the server when this process dies: SIGQUIT, an immediate shutdown, so that nothing
// is left of it when the next start comes. The next start recovers.
func setDeathSignal(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

// childrenOf lists the child processes of a process.
func childrenOf(parent int) []int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil // the pattern is a constant
	}
	var children []int
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if _, ppid, ok := stateOf(pid); err == nil && ok && ppid == parent {
			children = append(children, pid)
		}
	}
	return children
}

// alive tells whether a process runs. One that ended but whose parent has not taken notice (a zombie, as in a container
// without an init process) does not.
func alive(pid int) bool {
	state, _, ok := stateOf(pid)
	return ok && state != "Z" && state != "X"
}

// stateOf reads proc(5) stat: pid (name) state ppid …; the name may hold spaces and brackets.
func stateOf(pid int) (state string, parent int, ok bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", 0, false
	}
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return "", 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}

// runsIn tells whether the process is a server of ours with this data directory.
func runsIn(pid int, data string) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && slices.Contains(strings.Split(string(raw), "\x00"), data)
}
