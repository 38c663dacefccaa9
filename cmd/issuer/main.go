// Command issuer writes keys into PSAM cards: "issuer serve" runs the service, the other commands talk to it over HTTP.
//
// Exit codes: 0 done, 1 refused or failed, 2 the service cannot be reached.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/service"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUnreachable = 2
)

func main() { os.Exit(run()) }

func run() int {
	ctx, release := service.SignalContext(context.Background())
	defer release()
	err := rootCommand().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "issuer: "+err.Error())
	return exitCode(err)
}

// exitCode tells a service that cannot be reached from one that says no.
func exitCode(err error) int {
	if errors.Is(err, errUnreachable) {
		return exitUnreachable
	}
	return exitFailed
}

// defaultAPI is where the issuer listens in development (design.md §6).
const defaultAPI = "http://127.0.0.1:8081"

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "issuer", Short: "Write keys into PSAM cards", Version: service.Version(), SilenceUsage: true, SilenceErrors: true,
		Long: "Write keys into PSAM cards.\n\nExit codes: 0 done, 1 refused or failed, 2 the service cannot be reached.",
	}
	o := &options{}
	root.PersistentFlags().StringVar(&o.api, "api", defaultAPI, "address of the issuer's API")
	root.PersistentFlags().StringVarP(&o.output, "output", "o", formatTable, "table or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formatTable, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	card := &cobra.Command{Use: "card", Short: "Issue cards and look at them"}
	card.AddCommand(issueCommand(o), showCommand(o))
	runs := &cobra.Command{Use: "runs", Short: "Look at runs: one for each attempt to write a card"}
	runs.AddCommand(listCommand(o))
	root.AddCommand(serveCommand(), card, runs)
	return root
}
