package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Prepare does what every service does before it makes its parts: it switches core dumps off, because they would hold secrets, loads
// the configuration file at path into the struct that into points to (see LoadConfig), and makes the logger to standard error that
// log, a part of that struct, then asks for.
func Prepare(path string, into any, log *LogConfig) (*slog.Logger, error) {
	if err := DisableCoreDumps(); err != nil {
		return nil, fmt.Errorf("switch core dumps off: %w", err)
	}
	if err := LoadConfig(path, into); err != nil {
		return nil, err
	}
	return NewLogger(os.Stderr, log.Level, log.Format)
}

// App is what Run runs.
type App interface {
	// Start brings the parts up. After an error Stop is called all the same, for those that were.
	Start(ctx context.Context) error
	// Wait returns when ctx ends, or with the error of a part that the service cannot go on without.
	Wait(ctx context.Context) error
	// Stop stops the parts and returns before ctx ends.
	Stop(ctx context.Context) error
}

// Run starts an app, calls ready, waits until ctx ends or a part fails, and stops the app within bound.
func Run(ctx context.Context, app App, bound time.Duration, ready func()) (err error) {
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
		defer cancel()
		err = errors.Join(err, app.Stop(stopCtx))
	}()
	if err := app.Start(ctx); err != nil {
		return err
	}
	ready()
	return app.Wait(ctx)
}
