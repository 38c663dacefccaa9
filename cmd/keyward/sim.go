package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/control"
)

// simStop bounds the stop of the simulators; supervisors allow 30 s.
const simStop = 20 * time.Second

func simCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "sim", Short: "Run the simulators: HSMs, bank, PSAM cards, terminals", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runSimulators(cmd.Context(), config) },
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration file (YAML)")
	_ = cmd.MarkFlagRequired("config")
	return cmd
}

func runSimulators(ctx context.Context, path string) (err error) {
	if err := service.DisableCoreDumps(); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	cfg := control.Config{Profile: service.Production, Log: service.LogConfig{Level: "info", Format: "text"}}
	if err := service.LoadConfig(path, &cfg); err != nil {
		return err
	}
	log, err := service.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	log = log.With("service", "sim")
	app, err := control.New(cfg, log)
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), simStop)
		defer cancel()
		err = errors.Join(err, app.Stop(stopCtx))
	}()
	if err := app.Start(ctx); err != nil {
		return err
	}
	log.InfoContext(ctx, "simulators are ready", "control", cfg.Listen)
	return app.Wait(ctx)
}
