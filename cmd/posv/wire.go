package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
)

// stopBound is how long the whole of posv may take to stop; supervisors allow 30 s.
const stopBound = 25 * time.Second

// serve wires posv: the only place where concrete parts are named.
func serve(ctx context.Context, path string) (err error) {
	if err := service.DisableCoreDumps(); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	cfg := posv.DefaultConfig()
	if err := service.LoadConfig(path, &cfg); err != nil {
		return err
	}
	log, err := service.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	log = log.With("service", "posv")
	app, err := posv.New(posv.Options{Config: cfg, Log: log, Registry: service.NewRegistry()})
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBound)
		defer cancel()
		err = errors.Join(err, app.Stop(stopCtx))
	}()
	if err := app.Start(ctx); err != nil {
		return err
	}
	log.InfoContext(ctx, "posv is ready", "api", app.Addr().String())
	return app.Wait(ctx)
}
