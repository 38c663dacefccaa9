package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/dev"
)

// initCommand prepares what containers share. See docker-compose.yml.
func initCommand() *cobra.Command {
	var opt dev.PrepareOptions
	cmd := &cobra.Command{
		Use: "init", Short: "Prepare a development system of containers: schema, passwords, certificates, test keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := dev.Prepare(cmd.Context(), opt); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "The database is up to date; secrets and certificates are in %s.\n", opt.Dir)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opt.DatabaseURLFile, "database-url-file", "", "file with the connection string of the database's superuser")
	flags.StringVar(&opt.Dir, "out", "", "directory for secrets and certificates")
	flags.StringSliceVar(&opt.KeyServiceHosts, "key-service-host", []string{"keys", "localhost", "127.0.0.1"}, "names of the key service for its certificate")
	_ = cmd.MarkFlagRequired("database-url-file")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

// fillCommand makes the development data through the services' APIs.
func fillCommand() *cobra.Command {
	var posv, issuer, operations, control string
	var terminals int
	cmd := &cobra.Command{
		Use: "fill", Short: "Issue, register and bind the cards and terminals of the development data", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := dev.At(posv, issuer, operations, control).Fill(cmd.Context(), terminals, false)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%d cards were issued; %d terminals are there.\n", n, terminals)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&posv, "posv", "127.0.0.1:8080", "host:port of posv")
	flags.StringVar(&issuer, "issuer", "127.0.0.1:8081", "host:port of issuer")
	flags.StringVar(&operations, "operations", "127.0.0.1:8082", "host:port of posp's operations API")
	flags.StringVar(&control, "control", "127.0.0.1:8090", "host:port of the simulators' control API")
	flags.IntVar(&terminals, "terminals", 20, "number of terminals that have an issued card, from 10000001")
	return cmd
}
