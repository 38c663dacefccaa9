//go:build !linux

package supervise

import (
	"os/exec"
	"strconv"
	"strings"
)

// Process gives the command line of a process, and whether it runs: one that has ended and was not waited for (a zombie) does not.
// Arguments are split at spaces: ps does not tell where they end.
func Process(pid int) (args []string, alive bool) {
	out, err := exec.Command("ps", "-o", "stat=,args=", "-p", strconv.Itoa(pid)).Output() // Without a context: it returns at once.
	words := strings.Fields(string(out))
	if err != nil || len(words) < 2 || strings.HasPrefix(words[0], "Z") {
		return nil, false
	}
	return words[1:], true
}
