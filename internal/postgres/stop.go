package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// fastStop bounds an orderly stop: clients are cut off, a checkpoint is written.
	fastStop = 15 * time.Second
	// immediateStop bounds a stop without checkpoint, and the end of a killed server.
	immediateStop = 5 * time.Second
	// orphanWait is how long a server whose keyward died is given to go by itself, as the death signal makes it on Linux.
	orphanWait = 5 * time.Second
)

// Stop stops the server in order (fast shutdown), at the latest after 15 s or when ctx ends at once without a checkpoint;
// the next start then recovers. The directory is free afterwards. Stopping a stopped server does nothing.
func (s *Server) Stop(ctx context.Context) error {
	err := s.halt(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	return err
}

// Kill ends the server as a crash would: SIGKILL to every process of it. For fault tests; Restart brings it back. The
// directory stays locked until Stop.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.killGroup(s.proc)
		s.proc = nil
	}
}

// Restart starts the server again on the same port, stopping it first when it runs. After Stop it fails: use Start.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	stopped := s.lock == nil
	s.mu.Unlock()
	if stopped {
		return errors.New("postgres: restart after stop: start a new server instead")
	}
	if err := s.halt(ctx); err != nil {
		return err
	}
	return s.launch(ctx)
}

// halt stops the server and keeps the directory.
func (s *Server) halt(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	proc := s.proc
	if proc == nil {
		return nil
	}
	s.proc = nil
	ctx, cancel := context.WithTimeout(ctx, fastStop)
	defer cancel()
	if signalAndWait(proc.pid, syscall.SIGINT, proc.done, ctx.Done()) {
		return nil
	}
	late := time.NewTimer(immediateStop)
	defer late.Stop()
	if !signalAndWait(proc.pid, syscall.SIGQUIT, proc.done, late.C) {
		s.killGroup(proc)
	}
	return fmt.Errorf("postgres: the server did not stop in time (%w) and was stopped at once; its next start recovers", ctx.Err())
}

// signalAndWait signals a process and tells whether it ended before giveUp fired.
func signalAndWait[T any](pid int, signal syscall.Signal, done <-chan struct{}, giveUp <-chan T) bool {
	_ = syscall.Kill(pid, signal) // it may have ended meanwhile, which done tells
	select {
	case <-done:
		return true
	case <-giveUp:
		return isClosed(done)
	}
}

// killGroup kills the server and its children and waits until they are gone. Each child of the server is a session of its
// own, so signalling the process group of the server reaches the server alone.
func (s *Server) killGroup(proc *process) {
	if !isClosed(proc.done) {
		_ = syscall.Kill(proc.pid, syscall.SIGSTOP) // so that it starts no further child
		children := childrenOf(proc.pid)
		_ = syscall.Kill(proc.pid, syscall.SIGKILL)
		for _, child := range children {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		<-proc.done // SIGKILL cannot be refused
		deadline := time.Now().Add(immediateStop)
		for _, child := range children {
			for alive(child) && time.Now().Before(deadline) {
				time.Sleep(readyPoll) // the children are not ours to wait for
			}
		}
	}
}

// clearStale deals with a server that still runs, or seems to, in our directory, whose lock we hold: so its keyward is dead.
func (s *Server) clearStale(ctx context.Context) error {
	path := filepath.Join(s.DataDir(), "postmaster.pid")
	pid := pidIn(path)
	if pid <= 1 || !alive(pid) {
		return nil // no file, or of a dead server: PostgreSQL itself removes it, after a check of shared memory
	}
	if !runsIn(pid, s.DataDir()) {
		// The number went to another program, which would keep PostgreSQL from starting for ever.
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return explainPath("remove stale", path, err)
		}
		return nil
	}
	s.log.InfoContext(ctx, "waiting for an earlier database server to end", "pid", pid)
	if waitGone(ctx, pid, orphanWait) {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGINT)
	if waitGone(ctx, pid, fastStop) {
		return nil
	}
	return fmt.Errorf("postgres: an earlier database server (process %d) runs in %s and does not stop: end it with `kill -QUIT %d` and start again", pid, s.DataDir(), pid)
}

// pidIn returns the process number in a postmaster.pid file, 0 when there is none.
func pidIn(path string) int {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0
	}
	return pid
}

// waitGone waits until a process that is not our child has ended.
func waitGone(ctx context.Context, pid int, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if !alive(pid) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(readyPoll):
		}
	}
}
