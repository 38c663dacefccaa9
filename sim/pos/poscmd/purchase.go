package poscmd

import (
	"github.com/keyward/keyward/sim/pos"
	"github.com/spf13/cobra"
)

func purchase(opts *options) *cobra.Command {
	var sale pos.Sale
	var amount string
	cmd := &cobra.Command{
		Use: "purchase", Short: "Pay with a card", Args: cobra.NoArgs,
		Example: "  pos purchase --amount 12.34\n  pos purchase --pan 6222020000000000034 --pin '' --entry keyed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			fen, err := parseAmount(amount)
			if err != nil {
				return err
			}
			sale.AmountFen = fen
			return opts.run(cmd.Context(), cmd.OutOrStdout(), "purchase", &sale)
		},
	}
	cardFlags(cmd, &sale)
	cmd.Flags().StringVar(&amount, "amount", defaultAmount, "amount in yuan")
	return cmd
}
