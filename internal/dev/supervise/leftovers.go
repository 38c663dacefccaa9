package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// leftoverWait is how long a leftover may take to go: the kernel's death signal is usually faster than the next run.
	leftoverWait = 5 * time.Second
	// leftoverPoll is the pause between two looks.
	leftoverPoll = 20 * time.Millisecond
)

// note writes the numbers of the running children and their programs, one per line, for Leftovers. It is called with a child
// locked, so it takes the new number from a goroutine of its own.
func (s *Supervisor) note() {
	if s.cfg.PIDFile == "" {
		return
	}
	go func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.stopped {
			return
		}
		var b strings.Builder
		for _, c := range s.children {
			if pid := c.running(); pid != 0 {
				fmt.Fprintf(&b, "%d %s\n", pid, c.spec.Path)
			}
		}
		// A list that cannot be written costs nothing but the clean-up after a crash on systems without a death signal. Half a
		// list would be worse, so it is put in place whole.
		temp := s.cfg.PIDFile + ".new"
		if os.WriteFile(temp, []byte(b.String()), 0o600) == nil {
			_ = os.Rename(temp, s.cfg.PIDFile)
		}
	}()
}

// Leftovers ends the processes of an earlier run that died without stopping them, as the list at pidFile names them. Call it only
// while holding the lock of the data directory. A number that now belongs to another program is left alone.
func Leftovers(ctx context.Context, pidFile string) error {
	raw, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the list of processes: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		number, path, ok := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(number)
		if !ok || err != nil || pid <= 1 || !runs(pid, path) {
			continue
		}
		_ = syscall.Kill(-pid, killSignal)
		deadline := time.Now().Add(leftoverWait)
		for runs(pid, path) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d (%s) of an earlier run does not end: end it with `kill -9 %d` and start again", pid, path, pid)
			}
			select { // it is not our child: there is nothing to wait for
			case <-time.After(leftoverPoll):
			case <-ctx.Done():
				return fmt.Errorf("wait for process %d (%s) of an earlier run: %w", pid, path, context.Cause(ctx))
			}
		}
	}
	if err := os.Remove(pidFile); err != nil {
		return fmt.Errorf("remove the list of processes: %w", err)
	}
	return nil
}

// runs tells whether the process is alive and is the program at path.
func runs(pid int, path string) bool {
	args, alive := Process(pid)
	return alive && strings.Contains(strings.Join(args, " "), path)
}
