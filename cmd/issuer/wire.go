package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/issuer"
	"github.com/keyward/keyward/internal/issuer/simreader"
	"github.com/keyward/keyward/internal/service"
)

// stopBound is how long the whole of the issuer may take to stop; supervisors allow 30 s.
const stopBound = 25 * time.Second

func serveCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use: "serve", Short: "Serve the issuer's API", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), config) },
	}
	c.Flags().StringVar(&config, "config", "", "configuration file (YAML)")
	_ = c.MarkFlagRequired("config") // fails only for a flag that does not exist
	return c
}

// serve wires the issuer: the only place where concrete parts are named.
func serve(ctx context.Context, path string) error {
	cfg := issuer.DefaultConfig()
	log, err := service.Prepare(path, &cfg, &cfg.Log)
	if err != nil {
		return err
	}
	log = log.With("service", "issuer")
	// Validate has checked that the driver is known and allowed by the profile.
	reader, err := simreader.New(cfg.Reader.URL)
	if err != nil {
		return err
	}
	defer reader.Close()
	app, err := issuer.New(issuer.Options{Config: cfg, Reader: reader, Log: log, Registry: service.NewRegistry()})
	if err != nil {
		return err
	}
	return service.Run(ctx, app, stopBound, func() { log.InfoContext(ctx, "the issuer is ready", "addr", app.Addr().String()) })
}
