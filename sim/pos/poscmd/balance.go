package poscmd

import (
	"github.com/keyward/keyward/sim/pos"
	"github.com/spf13/cobra"
)

func balance(opts *options) *cobra.Command {
	var sale pos.Sale
	cmd := &cobra.Command{
		Use: "balance", Short: "Ask for the balance of an account", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return opts.run(cmd.Context(), cmd.OutOrStdout(), "balance", &sale)
		},
	}
	cardFlags(cmd, &sale)
	return cmd
}
