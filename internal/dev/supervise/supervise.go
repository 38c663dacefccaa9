// Package supervise runs the child processes of a system on one machine: it starts them one after another, waits until each is
// ready, restarts one that dies later, and stops them in reverse order.
//
// Each child leads a process group of its own, so that Ctrl-C on the terminal reaches the supervisor alone and a child goes with
// all that it started. On Linux the kernel kills the children when this process dies, however it dies; elsewhere the next run
// ends what was left (Leftovers).
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// readyPoll is the pause between two questions whether a child is ready: short, because a start of the whole system is
	// a chain of them.
	readyPoll = 20 * time.Millisecond
	// readyAsk bounds one such question.
	readyAsk = 2 * time.Second
	// defaultReadyWait bounds the wait for a child: longer than what the services themselves wait for their database and HSM.
	defaultReadyWait = 50 * time.Second
	// defaultStopWait is what supervisors usually allow (30 s) and longer than the services' own bounds (25 s).
	defaultStopWait = 28 * time.Second
	// tailLines is how many lines of its log are shown of a child that did not come up.
	tailLines = 8
)

// Back-off between restarts of one child. One that ran for steadyAfter counts as healthy again.
const (
	firstPause  = 250 * time.Millisecond
	longPause   = 10 * time.Second
	steadyAfter = 30 * time.Second
)

// Spec is one child process.
type Spec struct {
	Name string   // unique; for messages and the log file
	Path string   // program
	Args []string // without the program's name
	// Ready asks whether the child serves; it is called again and again until it returns nil. Nil: ready when started. The
	// last error is shown when the wait ends.
	Ready func(ctx context.Context) error
	// ReadyWait bounds the wait for Ready, StopWait the time between SIGTERM and SIGKILL. Zero: 50 s and 28 s.
	ReadyWait, StopWait time.Duration
}

// Config is what a supervisor needs.
type Config struct {
	// LogDir gets <name>.log of each child; older logs are kept as <name>.log.1 and .2.
	LogDir string
	// PIDFile keeps the process numbers of the children for Leftovers. Empty: none is written.
	PIDFile string
	// Tell gets a sentence for people when a child dies and when it is back. Nil tells nobody.
	Tell func(sentence string)
	// Log gets the same for programs. Nil logs nothing.
	Log *slog.Logger
}

// Supervisor owns the children. Its methods are safe for concurrent use. Make one with New.
type Supervisor struct {
	cfg Config

	mu       sync.Mutex
	children []*child // in the order of their start
	stopped  bool
}

// New makes a supervisor without children and creates the log directory.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Tell == nil {
		cfg.Tell = func(string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.LogDir, 0o700); err != nil {
		return nil, fmt.Errorf("create the log directory: %w", err)
	}
	return &Supervisor{cfg: cfg}, nil
}

// Start starts a child and waits until it is ready. A child that ends or is not ready in time is stopped, and the error shows the
// last lines of its log and where the log is. From then on a child that ends is started again until Stop.
func (s *Supervisor) Start(ctx context.Context, spec Spec) error {
	if spec.ReadyWait == 0 {
		spec.ReadyWait = defaultReadyWait
	}
	if spec.StopWait == 0 {
		spec.StopWait = defaultStopWait
	}
	logFile, err := openLog(filepath.Join(s.cfg.LogDir, spec.Name+".log"))
	if err != nil {
		return err
	}
	c := &child{spec: spec, sup: s, log: logFile, stop: make(chan struct{}), done: make(chan struct{}), steady: make(chan struct{})}
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return errors.Join(fmt.Errorf("start %s: the system is being stopped", spec.Name), logFile.Close())
	}
	s.children = append(s.children, c)
	s.mu.Unlock()

	first := make(chan error, 1)
	go c.run(first)
	if err := <-first; err != nil {
		return fmt.Errorf("start %s: %w: build it with `make build`, it must stand beside keyward", spec.Name, err)
	}
	if err := c.awaitReady(ctx); err != nil {
		_ = c.halt() // what matters is why it did not come up
		return err
	}
	close(c.steady)
	return nil
}

// Stop stops the children, the last started first, each within its bound, and joins what went wrong. Further starts are refused. A
// second call does nothing.
func (s *Supervisor) Stop() error {
	children := s.take()
	var errs []error
	for i := len(children) - 1; i >= 0; i-- {
		errs = append(errs, children[i].halt())
	}
	if s.cfg.PIDFile != "" {
		if err := os.Remove(s.cfg.PIDFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove the list of processes: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Kill ends all children at once, with SIGKILL; also those that Stop is waiting for.
func (s *Supervisor) Kill() {
	s.mu.Lock()
	s.stopped = true
	children := append([]*child(nil), s.children...)
	s.mu.Unlock()
	for _, c := range children {
		c.quit()
		c.signalGroup(killSignal)
	}
}

// PIDs gives the process numbers of the children that run, by name.
func (s *Supervisor) PIDs() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	pids := map[string]int{}
	for _, c := range s.children {
		if pid := c.running(); pid != 0 {
			pids[c.spec.Name] = pid
		}
	}
	return pids
}

// take marks the supervisor as stopped and gives the children.
func (s *Supervisor) take() []*child {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	return append([]*child(nil), s.children...)
}
