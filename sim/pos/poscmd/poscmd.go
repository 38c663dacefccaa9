// Package poscmd is the command tree "pos": it makes the terminals of the simulators sign on, pay and so on, through the
// control API of the simulators, and prints what came of it.
package poscmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/keyward/keyward/sim/pos"
	"github.com/spf13/cobra"
)

// Exit codes of the commands.
const (
	exitOK       = 0 // approved, or done
	exitDeclined = 1 // the host said no
	exitNotRun   = 2 // could not run, or ended in doubt
)

// Defaults of the commands: the development data of design.md §6.
const (
	defaultControl  = "http://127.0.0.1:8090"
	defaultTerminal = "10000001"
	defaultPAN      = "6222020000000000018"
	defaultPIN      = "123456"
	defaultAmount   = "1.00"
)

// exitError carries an exit code; the text has been printed when it is empty.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// options are the flags that all commands share.
type options struct {
	control  string
	terminal string
	output   string
	tls      bool
}

// New makes the command "pos" with its sub-commands, to be used alone or below another command. Give the error of its
// execution to ExitCode.
func New() *cobra.Command {
	opts := &options{}
	root := &cobra.Command{
		Use:           "pos",
		Short:         "Use a simulated POS terminal",
		Long:          "Use a simulated POS terminal of a running system (make dev).\nExit codes: 0 approved or done, 1 declined, 2 could not run or in doubt.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&opts.control, "control", defaultControl, "address of the simulators' control API")
	flags.StringVar(&opts.terminal, "terminal", defaultTerminal, "terminal number, 8 characters")
	flags.BoolVar(&opts.tls, "tls", false, "use posp's TLS listener, with the terminal's certificate")
	flags.StringVar(&opts.output, "output", "table", "how to print the result: table or json")
	root.AddCommand(
		plain(opts, "signon", "Sign on: fetch work keys and write them into the card"),
		plain(opts, "signoff", "Sign off"),
		plain(opts, "echo", "Ask whether the host is there"),
		balance(opts),
		plain(opts, "reversal", "Send the pending reversal, or reverse the last approved transaction"),
		plain(opts, "deliver", "Send the stored messages that no host has answered yet"),
	)
	root.AddCommand(trades(opts)...)
	return root
}

// plain is a command that needs nothing but a terminal.
func plain(opts *options, name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return opts.run(cmd.Context(), cmd.OutOrStdout(), name, nil)
		},
	}
}

// cardFlags adds the flags of a card to a command. The PIN's default is not shown in the help.
func cardFlags(cmd *cobra.Command, sale *pos.Sale) {
	flags := cmd.Flags()
	flags.StringVar(&sale.PAN, "pan", defaultPAN, "card number")
	flags.StringVar(&sale.PIN, "pin", defaultPIN, "PIN; empty for a card without PIN")
	flags.Lookup("pin").DefValue = "that of the default card"
	flags.StringVar(&sale.Entry, "entry", pos.EntrySwipe, "how the card is read: swipe or keyed")
}

// parseAmount turns "12.34" into fen without floating point.
func parseAmount(text string) (int64, error) {
	whole, fraction, hasPoint := strings.Cut(text, ".")
	wrong := fmt.Errorf("amount %q: write yuan with at most two decimals, for example 12.34", text)
	if whole == "" || len(fraction) > 2 || hasPoint && fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, wrong
	}
	fen, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", 2-len(fraction)), 10, 64)
	if err != nil {
		return 0, wrong
	}
	return fen, nil
}

// ExitCode prints what the error has to say to w and returns the exit code for it.
func ExitCode(err error, w io.Writer) int {
	if err == nil {
		return exitOK
	}
	code := exitNotRun
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if text := err.Error(); text != "" {
		_, _ = fmt.Fprintln(w, "pos: "+text)
	}
	return code
}

// Run executes the tree with its own arguments and returns the exit code.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := New()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return ExitCode(root.ExecuteContext(ctx), stderr)
}
