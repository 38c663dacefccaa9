package supervise

import (
	"os"
	"strconv"
	"strings"
)

// Process gives the command line of a process, and whether it runs: one that has ended and was not waited for (a zombie) does not.
// Linux tells it in proc(5), so that a machine without ps serves as well.
func Process(pid int) (args []string, alive bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil, false
	}
	// pid (name) state …; the name may hold spaces and brackets.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	if rest == "" || strings.ContainsAny(rest[:1], "ZX") {
		return nil, false
	}
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return nil, false
	}
	return strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"), true
}
