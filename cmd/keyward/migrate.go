package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
)

// migrateCommand brings the schema of a database up to date: the one step of an upgrade that needs the database's owner.
func migrateCommand() *cobra.Command {
	var urlFile service.SecretFile
	cmd := &cobra.Command{
		Use: "migrate", Short: "Bring the schema of a database up to date", Args: cobra.NoArgs,
		Long: "Applies the numbered migrations that the database lacks, each in a transaction of its own, and creates the services' roles.\n" +
			"Several may run at once: they wait for each other. Passwords of the roles are the administrator's (ALTER ROLE).",
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := urlFile.Read()
			if err != nil {
				return fmt.Errorf("--database-url-file: %w", err)
			}
			defer url.Wipe()
			if err := migrations.Apply(cmd.Context(), string(url.Reveal())); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "The schema is at version %d.\n", migrations.Latest())
			return nil
		},
	}
	cmd.Flags().StringVar((*string)(&urlFile), "database-url-file", "", "file with the connection string of the database's superuser or owner")
	_ = cmd.MarkFlagRequired("database-url-file")
	return cmd
}
