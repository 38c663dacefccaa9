package main

import (
	"context"
	"time"

	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
)

// stopBound is how long the whole of posv may take to stop; supervisors allow 30 s.
const stopBound = 25 * time.Second

// serve wires posv: the only place where concrete parts are named.
func serve(ctx context.Context, path string) error {
	cfg := posv.DefaultConfig()
	log, err := service.Prepare(path, &cfg, &cfg.Log)
	if err != nil {
		return err
	}
	log = log.With("service", "posv")
	app, err := posv.New(posv.Options{Config: cfg, Log: log, Registry: service.NewRegistry()})
	if err != nil {
		return err
	}
	return service.Run(ctx, app, stopBound, func() { log.InfoContext(ctx, "posv is ready", "api", app.Addr().String()) })
}
