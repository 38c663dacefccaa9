// Command posv is the registry of merchants, terminals and PSAM cards with its console: "posv serve" runs it, the other commands
// talk to a running one over its API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	_ "time/tzdata" // time zones for machines that have none installed

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/service"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // the command was right, but could not be done
	exitUsage   = 2 // the command itself is wrong
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errs io.Writer) int {
	ctx, release := service.SignalContext(context.Background())
	defer release()
	c := command()
	c.SetArgs(args)
	c.SetOut(out)
	c.SetErr(errs)
	err := c.ExecuteContext(ctx)
	var failed *failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &failed):
		_, _ = fmt.Fprintln(errs, "posv: "+err.Error())
		return exitFailure
	default: // what cobra itself refuses: flags, arguments, names of commands
		_, _ = fmt.Fprintln(errs, "posv: "+err.Error()+"; see posv --help")
		return exitUsage
	}
}

// failure is an error of a command that was called rightly.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// does makes a command's work whose errors are failures.
func does(work func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := work(cmd, args); err != nil {
			var wrong *usageError
			if errors.As(err, &wrong) {
				return err
			}
			return &failure{err}
		}
		return nil
	}
}

// usageError is a wrong call that cobra cannot see.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "posv", Short: "Registry of terminals and PSAM cards, with its console", Version: service.Version(),
		SilenceUsage: true, SilenceErrors: true,
	}
	var config string
	serve := &cobra.Command{
		Use: "serve", Short: "Serve the registry API and the console", Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), config) }),
	}
	serve.Flags().StringVar(&config, "config", "", "configuration file (YAML)")
	_ = serve.MarkFlagRequired("config") // the flag exists
	c := &client{}
	clients := []*cobra.Command{terminalCommand(c), cardCommand(c), orderCommand(c), auditCommand(c)}
	for _, one := range clients {
		c.flags(one)
	}
	root.AddCommand(append(clients, serve)...)
	return root
}
