package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/dev"
)

// defaultData is where "make dev" keeps everything.
const defaultData = "./.keyward"

func devCommand(kill <-chan struct{}) *cobra.Command {
	var opt dev.Options
	var verbose bool
	cmd := &cobra.Command{
		Use: "dev", Short: "Run everything, simulators included, until Ctrl-C", Args: cobra.NoArgs,
		Long: "Run PostgreSQL, all services and all simulators with public test keys until Ctrl-C.\n" +
			"Data stay in the data directory; the next run goes on with them.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if verbose {
				opt.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			}
			return dev.Run(cmd.Context(), opt, dev.NewScreen(cmd.OutOrStdout(), isTerminal(os.Stdout)), kill)
		},
	}
	flags := cmd.Flags()
	cmd.PersistentFlags().StringVar(&opt.DataDir, "data-dir", defaultData, "where everything is kept")
	flags.IntVar(&opt.Terminals, "terminals", 20, "number of terminals that have an issued card, from 10000001")
	flags.IntVar(&opt.Offset, "port-offset", 0, "added to every port, so that two systems run side by side")
	flags.BoolVar(&opt.Traffic, "traffic", false, "make transactions on terminals 10000101 up")
	flags.Float64Var(&opt.Rate, "rate", 5, "transactions per second of --traffic")
	flags.BoolVar(&verbose, "verbose", false, "log what the start does")
	cmd.AddCommand(resetCommand(&opt.DataDir))
	return cmd
}

func resetCommand(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use: "reset", Short: "Remove the data of earlier runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := dev.Reset(cmd.Context(), *dataDir)
			if err != nil {
				return err
			}
			text := "There were no data in %s.\n"
			if found {
				text = "The data in %s are removed; the next start is a first one.\n"
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), text, *dataDir)
			return nil
		},
	}
}

// isTerminal says that a person looks at f, who can see colours.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
