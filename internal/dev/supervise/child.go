package supervise

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	killSignal = syscall.SIGKILL
	stopSignal = syscall.SIGTERM
	// outputGrace is how long the output of an ended child may be held open by something that it started.
	outputGrace = 500 * time.Millisecond
	// killWait bounds the wait for a process that got SIGKILL: only one stuck in the kernel needs longer.
	killWait = 5 * time.Second
)

// child is one process, over all its restarts.
type child struct {
	spec   Spec
	sup    *Supervisor
	log    *logFile
	stop   chan struct{} // closed by quit: no further restart
	steady chan struct{} // closed when the first start came up: from then on it is restarted
	done   chan struct{} // closed when no process is left and none will come
	once   sync.Once

	mu   sync.Mutex
	pid  int    // 0: none runs
	exit string // how it last ended
}

// run starts the process and again after each end. It keeps its thread for the whole time, because on Linux the death signal is
// sent when the starting thread ends, not the process, and Go ends threads when it likes.
func (c *child) run(first chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	defer func() { _ = c.log.Close() }() // every line was written at once
	pause := firstPause
	for again := false; ; again = true {
		cmd := exec.Command(c.spec.Path, c.spec.Args...) // Without a context: stopping is orderly.
		cmd.Stdout, cmd.Stderr = c.log, c.log
		cmd.WaitDelay = outputGrace
		cmd.SysProcAttr = attributes()
		err := c.begin(cmd)
		if !again {
			first <- err
			if err != nil {
				return
			}
		}
		begun := time.Now()
		if err == nil {
			if again {
				c.sup.cfg.Tell(c.spec.Name + " was started again.")
			}
			err = cmd.Wait()
			c.end(cmd, err)
		}
		if !c.mayRestart() {
			return
		}
		if time.Since(begun) > steadyAfter {
			pause = firstPause
		}
		c.tell(err, pause)
		select {
		case <-c.stop:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
	}
}

// begin starts the process unless a stop came first, so that none is started behind its back.
func (c *child) begin(cmd *exec.Cmd) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if closed(c.stop) {
		return errors.New("it is being stopped")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.pid = cmd.Process.Pid
	c.sup.note()
	return nil
}

func (c *child) end(cmd *exec.Cmd, err error) {
	// Whatever the process started goes with it; its group exists as long as one member lives.
	_ = syscall.Kill(-cmd.Process.Pid, killSignal)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pid = 0
	c.exit = "it ended without an error"
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		c.exit = "it ended: " + err.Error()
	}
}

// mayRestart says that the child came up once and nobody stops it.
func (c *child) mayRestart() bool { return closed(c.steady) && !closed(c.stop) }

func (c *child) tell(err error, pause time.Duration) {
	why := "without an error"
	if err != nil {
		why = "with " + err.Error()
	}
	c.sup.cfg.Tell(fmt.Sprintf("%s ended %s; it is started again in %s. Its log: %s", c.spec.Name, why, pause, c.log.path))
	c.sup.cfg.Log.Warn("child ended", "child", c.spec.Name, "how", why, "pause", pause)
}

// awaitReady asks until the child is ready, has ended, or the time is over.
func (c *child) awaitReady(ctx context.Context) error {
	if c.spec.Ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.spec.ReadyWait)
	defer cancel()
	var last error
	for {
		ask, done := context.WithTimeout(ctx, readyAsk)
		err := c.spec.Ready(ask)
		done()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err // the answer to a question that was cut short says nothing
		}
		select {
		case <-c.done:
			c.mu.Lock()
			defer c.mu.Unlock()
			return fmt.Errorf("%s did not start: %s\n%s", c.spec.Name, c.exit, c.log.excerpt(tailLines))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("%s: the start was interrupted: %w", c.spec.Name, context.Cause(ctx))
			}
			return fmt.Errorf("%s is not ready after %s: %w\n%s", c.spec.Name, c.spec.ReadyWait, last, c.log.excerpt(tailLines))
		case <-time.After(readyPoll):
		}
	}
}

// quit ends the restarts.
func (c *child) quit() { c.once.Do(func() { close(c.stop) }) }

// halt stops the process: SIGTERM to its group, SIGKILL after the bound.
func (c *child) halt() error {
	c.quit()
	c.signalGroup(stopSignal)
	if waitFor(c.done, c.spec.StopWait) {
		return nil
	}
	c.signalGroup(killSignal)
	if waitFor(c.done, killWait) {
		return fmt.Errorf("%s did not stop within %s and was killed; see %s", c.spec.Name, c.spec.StopWait, c.log.path)
	}
	return fmt.Errorf("%s cannot be killed (process %d): look at it with ps", c.spec.Name, c.running())
}

// signalGroup signals the process and what it started. The lock keeps the number from being that of another process: end, under the
// same lock, forgets it, and the group outlives a leader that was waited for only for as long as end takes.
func (c *child) signalGroup(signal syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid != 0 {
		_ = syscall.Kill(-c.pid, signal) // it may have ended, which done tells
	}
}

func (c *child) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

func waitFor(done <-chan struct{}, bound time.Duration) bool {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return closed(done)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// indent sets log lines off from the sentence above them.
func indent(lines []string) string {
	return "  | " + strings.Join(lines, "\n  | ")
}
