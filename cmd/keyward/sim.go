package main

import (
	"context"
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

func runSimulators(ctx context.Context, path string) error {
	cfg := control.Config{Profile: service.Production, Log: service.LogConfig{Level: "info", Format: "text"}}
	log, err := service.Prepare(path, &cfg, &cfg.Log)
	if err != nil {
		return err
	}
	log = log.With("service", "sim")
	app, err := control.New(cfg, log)
	if err != nil {
		return err
	}
	return service.Run(ctx, app, simStop, func() { log.InfoContext(ctx, "simulators are ready", "control", cfg.Listen) })
}
