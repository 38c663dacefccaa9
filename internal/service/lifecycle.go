package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// Lifecycle stops what a service has started, in reverse order and in bounded time. Each part is added the moment it
// exists, so that a start which fails half-way stops exactly what was there.
type Lifecycle struct {
	log *slog.Logger

	mu      sync.Mutex
	parts   []part
	stopped bool
	done    chan struct{} // closed when Stop has run
	err     error         // result of Stop, valid after done

	failed chan error // the first task that failed
}

// part is one named cleanup.
type part struct {
	name  string
	bound time.Duration
	stop  func(context.Context) error
}

// NewLifecycle makes an empty one. log may be nil.
func NewLifecycle(log *slog.Logger) *Lifecycle {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Lifecycle{log: log, done: make(chan struct{}), failed: make(chan error, 1)}
}

// Add registers a cleanup: stop is called once, with a ctx that ends after bound. Added after Stop, it is called at once.
func (l *Lifecycle) Add(name string, bound time.Duration, stop func(ctx context.Context) error) {
	p := part{name: name, bound: bound, stop: stop}
	l.mu.Lock()
	late := l.stopped
	if !late {
		l.parts = append(l.parts, p)
	}
	l.mu.Unlock()
	if late {
		if err := l.stopPart(context.Background(), p); err != nil {
			l.log.Error("cleanup after the stop failed", "part", name, "error", err)
		}
	}
}

// Go runs a task in the background until Stop cancels its ctx, and waits bound for it then. A task that ends before with an
// error, or panics, makes Wait return: a service without one of its tasks must not go on.
func (l *Lifecycle) Go(name string, bound time.Duration, task func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := l.logged(name, guard(func() error { return task(ctx) }))
		if err != nil && ctx.Err() == nil {
			l.Fail(fmt.Errorf("%s: %w", name, err))
		}
		if errors.Is(err, context.Canceled) {
			err = nil // it ended because it was told to
		}
		ended <- err
	}()
	l.Add(name, bound, func(stopCtx context.Context) error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-stopCtx.Done():
			return context.Cause(stopCtx)
		}
	})
}

// Fail makes Wait return err; only the first one counts.
func (l *Lifecycle) Fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}

// Wait returns nil when ctx ends (a signal came), or the error of the first task that failed.
func (l *Lifecycle) Wait(ctx context.Context) error {
	select {
	case err := <-l.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Stop runs the cleanups, the last added first, and joins their errors by name. A cleanup that does not end within its bound
// is left behind and named. A second call waits for the first and returns the same.
func (l *Lifecycle) Stop(ctx context.Context) error {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		select {
		case <-l.done:
			return l.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	l.stopped = true
	parts := l.parts
	l.mu.Unlock()
	var errs []error
	for i := len(parts) - 1; i >= 0; i-- {
		began := time.Now()
		if err := l.stopPart(ctx, parts[i]); err != nil {
			errs = append(errs, err)
		}
		l.log.DebugContext(ctx, "stopped", "part", parts[i].name, "took", time.Since(began))
	}
	l.err = errors.Join(errs...)
	close(l.done)
	return l.err
}

// stopPart runs one cleanup within its bound.
func (l *Lifecycle) stopPart(ctx context.Context, p part) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.bound, fmt.Errorf("not ended within %s", p.bound))
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- l.logged(p.name, guard(func() error { return p.stop(ctx) })) }()
	select {
	case err := <-result:
		return named(p.name, err)
	case <-ctx.Done():
	}
	// A cleanup that obeys its ctx ends about now, and its own error says more than "not in time".
	select {
	case err := <-result:
		return named(p.name, err)
	case <-time.After(cleanupGrace):
		return fmt.Errorf("stop %s: left behind: %w", p.name, context.Cause(ctx))
	}
}

// cleanupGrace is how long a cleanup may take to notice that its time is over.
const cleanupGrace = 200 * time.Millisecond

func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("stop %s: %w", name, err)
}

// panicError is a panic as an error. Its text shows neither value (it may hold anything) nor stack; the stack is for the log.
type panicError struct {
	kind  string
	stack []byte
}

func (e *panicError) Error() string { return "panic with a value of type " + e.kind }

// guard turns a panic into an error.
func guard(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{kind: fmt.Sprintf("%T", v), stack: debug.Stack()}
		}
	}()
	return fn()
}

// logged writes the stack of a panic to the log.
func (l *Lifecycle) logged(name string, err error) error {
	if p, ok := errors.AsType[*panicError](err); ok {
		l.log.Error("panic", "part", name, "kind", p.kind, "stack", string(p.stack))
	}
	return err
}
