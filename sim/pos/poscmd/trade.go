package poscmd

import (
	"github.com/keyward/keyward/sim/pos"
	"github.com/spf13/cobra"
)

// later are the commands that refer to an earlier transaction.
var later = []struct{ name, short, example string }{
	{"void", "Take back a purchase of this batch", "  pos void\n  pos void --trace 000012"},
	{"refund", "Give back a sale, or a part of it", "  pos refund --amount 5.00 --trace 000012"},
	{"preauth-void", "Take back a pre-authorisation", "  pos preauth-void"},
	{"complete", "Complete a pre-authorisation: take the money that is held", "  pos complete --amount 110.00\n  pos complete --amount 80 --pan 6222020000000000018 --auth-code 000007"},
	{"complete-void", "Take back the completion of a pre-authorisation", "  pos complete-void"},
	{"advice", "Tell that a pre-authorisation has been completed", "  pos advice --amount 80.00"},
	{"adjust", "Tell the new total of a sale", "  pos adjust --amount 95.00 --trace 000012"},
	{"tip", "Tell the total of a sale with its tip", "  pos tip --amount 110.00"},
	{"offline-refund", "Tell that money has been given back", "  pos offline-refund --pan 6222020000000000018 --amount 5.00 --rrn 0A1B2C3D4E5F"},
	{"script-result", "Tell what became of the issuer's script", "  pos script-result"},
}

// first are the commands that begin something.
var first = []struct{ name, short, example string }{
	{"purchase", "Pay with a card", "  pos purchase --amount 12.34\n  pos purchase --pan 6222020000000000034 --pin '' --entry keyed"},
	{"preauth", "Have an amount held for a later completion", "  pos preauth --amount 100.00"},
	{"offline", "Tell of a sale that was made offline", "  pos offline --amount 12.34 --auth-code 123456"},
	{"offline-chip", "Tell of a chip sale that was made offline", "  pos offline-chip --amount 12.34"},
	{"load", "Ask for an e-cash load, which posp does not serve", "  pos load --amount 50.00"},
}

// trades makes the commands that move money.
func trades(opts *options) []*cobra.Command {
	var list []*cobra.Command
	for _, c := range first {
		var sale pos.Sale
		cmd := trade(opts, c.name, c.short, c.example, defaultAmount, &sale)
		cardFlags(cmd, &sale)
		if c.name == "offline" {
			cmd.Flags().StringVar(&sale.AuthCode, "auth-code", "", "authorisation code that was got by voice")
		}
		list = append(list, cmd)
	}
	for _, c := range later {
		var sale pos.Sale
		cmd := trade(opts, c.name, c.short, c.example, "", &sale)
		flags := cmd.Flags()
		flags.StringVar(&sale.OriginalTrace, "trace", "", "trace of the original; without --trace, --rrn and --auth-code the newest that fits")
		flags.StringVar(&sale.OriginalRRN, "rrn", "", "retrieval reference of the original")
		flags.StringVar(&sale.AuthCode, "auth-code", "", "authorisation code of the original")
		flags.StringVar(&sale.PAN, "pan", "", "card number, for an original of another terminal; else the terminal remembers it")
		flags.StringVar(&sale.PIN, "pin", "", "PIN, where the card asks for one")
		flags.StringVar(&sale.Entry, "entry", "", "how the card is read, with --pan: swipe or keyed")
		list = append(list, cmd)
	}
	return list
}

// trade is one command with an amount; no amount is that of the original.
func trade(opts *options, name, short, example, amount string, sale *pos.Sale) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, Example: example}
	usage := "amount in yuan"
	if amount == "" {
		usage += "; without it that of the original"
	}
	text := cmd.Flags().String("amount", amount, usage)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *text != "" {
			fen, err := parseAmount(*text)
			if err != nil {
				return err
			}
			sale.AmountFen = fen
		}
		return opts.run(cmd.Context(), cmd.OutOrStdout(), name, sale)
	}
	return cmd
}
