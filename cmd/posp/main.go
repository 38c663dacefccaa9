// Command posp is the ISO 8583 front end for POS terminals: "posp serve" runs it, "posp keys serve" runs the key service, which
// alone may derive and export card keys.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	_ "time/tzdata" // time zones for machines that have none installed

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/service"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errs io.Writer) int {
	ctx, release := service.SignalContext(context.Background())
	defer release()
	c := command()
	began := false
	notice(c, &began)
	c.SetArgs(args)
	c.SetOut(out)
	c.SetErr(errs)
	err := c.ExecuteContext(ctx)
	code := codeOf(err, began)
	if err != nil {
		text := "posp: " + err.Error()
		if code == exitUsage {
			text += "; see --help"
		}
		_, _ = fmt.Fprintln(errs, text)
	}
	return code
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "posp", Short: "ISO 8583 front end for POS terminals", Version: service.Version(),
		SilenceUsage: true, SilenceErrors: true,
	}
	var config string
	serve := &cobra.Command{
		Use: "serve", Short: "Serve terminals, and operators on a second listener", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serveFrontEnd(cmd.Context(), config) },
	}
	keys := group(&cobra.Command{Use: "keys", Short: "The key service: derives card keys and makes card scripts"})
	serveKeys := &cobra.Command{
		Use: "serve", Short: "Serve the key service", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serveKeyService(cmd.Context(), config) },
	}
	for _, c := range []*cobra.Command{serve, serveKeys} {
		c.Flags().StringVar(&config, "config", "", "configuration file (YAML)")
		_ = c.MarkFlagRequired("config")
	}
	keys.AddCommand(serveKeys, importCommand())
	root.AddCommand(serve, keys, hsmCommand(), routeCommand())
	return root
}
