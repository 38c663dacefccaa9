package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/bench"
)

func benchCommand() *cobra.Command {
	var opt bench.Options
	var out string
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure posp against a bare relay, and the HSM cluster against a bare client", Args: cobra.NoArgs,
		Long: "Bring up a private system, measure sign-ons and purchases with PIN through posp and through a bare relay that does the same\n" +
			"HSM and bank round trips without database and journal; then host commands through the clustered HSM client and through the\n" +
			"simplest client, and what taking an HSM out under load costs. Print all of it. docs/performance.md explains the figures.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := bench.Run(cmd.Context(), opt, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := report.Print(cmd.OutOrStdout()); err != nil {
				return err
			}
			if opt.CPUProfile != "" {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "\nposp ran inside this process: these figures are not comparable.\nLook at the profile: go tool pprof -top -tagfocus part=posp %s\n", opt.CPUProfile)
				return err
			}
			if out == "" {
				return nil
			}
			return report.Write(out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "file for the figures as JSON; empty writes none")
	flags.DurationVar(&opt.Duration, "duration", 40*time.Second, "time of all measurements of posp together; those of the HSM cluster take about as long")
	flags.IntVar(&opt.Terminals, "terminals", 64, "terminals; in the closed loop each has one message under way")
	flags.IntVar(&opt.Connections, "connections", 0, "connections that they share; 0: one each")
	flags.StringVar(&opt.Only, "only", "", "measure only posp, hsm or idle; empty: all")
	flags.StringVar(&opt.BinDir, "bin-dir", "", "where posp is; empty: beside this program")
	flags.StringVar(&opt.CPUProfile, "cpuprofile", "", "run posp inside this process and write a CPU profile of the purchases to this file")
	return cmd
}
