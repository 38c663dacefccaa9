package main

import (
	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/dev/story"
)

func demoCommand(kill <-chan struct{}) *cobra.Command {
	var opt story.Options
	cmd := &cobra.Command{
		Use: "demo", Short: "Tell the story once on a fresh private system, then stop", Args: cobra.NoArgs,
		Long: "Start a fresh system on free ports, issue a card, sign a terminal on, buy, break things, and stop.\n" +
			"Exit code 0 when every step was as told, else 1 with the step that failed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out = cmd.OutOrStdout()
			return story.Tell(cmd.Context(), opt, kill)
		},
	}
	cmd.Flags().BoolVar(&opt.Keep, "keep", false, "leave the data directory behind")
	return cmd
}
