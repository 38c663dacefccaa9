package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/keyservice"
	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/pgpool"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// issuingGroup is the name of the key service's HSM group.
const issuingGroup = "issuing"

// serveKeyService wires the key service: a process of its own, with an HSM group of its own (P1).
func serveKeyService(ctx context.Context, path string) (err error) {
	cfg := keyservice.DefaultConfig()
	log, err := service.Prepare(path, &cfg, &cfg.Log)
	if err != nil {
		return err
	}
	log = log.With("service", "keys")
	reg := service.NewRegistry()
	parts := service.NewLifecycle(log)
	defer func() { err = errors.Join(err, stopParts(ctx, parts)) }()

	hsm, err := newHSM(issuingGroup, cfg.Profile, cfg.HSM, log, reg)
	if err != nil {
		return err
	}
	if err := hsm.Start(ctx); err != nil {
		return err
	}
	parts.Add("hsm", 3*time.Second, hsm.Stop)
	app, err := keyservice.New(keyservice.Options{Config: cfg, HSM: hsm, Log: log, Registry: reg})
	if err != nil {
		return err
	}
	parts.Add("key service", stopBound, app.Stop)
	if err := app.Start(ctx); err != nil {
		return err
	}
	log.InfoContext(ctx, "the key service is ready", "addr", app.Addr().String())
	return app.Wait(ctx)
}

// importBound bounds "posp keys import": the database and the HSM may just be starting.
const importBound = 45 * time.Second

// importFlags are what "posp keys import" takes.
type importFlags struct {
	config, name, usage, algorithm, cryptogram, kcv string
	version                                         int
}

// importCommand makes "posp keys import". The cryptogram is no secret without the HSM and its LMK, so it may stand on a command line.
func importCommand() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use: "import", Short: "Store a key from a ceremony: a cryptogram under the LMK, checked by the HSM", Args: cobra.NoArgs,
		Example: "  posp keys import --config keys.yaml --name PSAM-ROOT --usage root --algorithm tdes --version 1 --cryptogram U… --kcv 08D7B4",
		RunE:    func(cmd *cobra.Command, _ []string) error { return importKey(cmd.Context(), f, cmd.OutOrStdout()) },
	}
	c.Flags().StringVar(&f.config, "config", "", "configuration file of the key service (YAML)")
	c.Flags().StringVar(&f.name, "name", "", "PSAM-ROOT, PSAM-CCK, PSAM-ACK or PSAM-TRANSPORT")
	c.Flags().StringVar(&f.usage, "usage", "", "root for the first three, card-control for PSAM-TRANSPORT")
	c.Flags().StringVar(&f.algorithm, "algorithm", "tdes", "tdes or sm4")
	c.Flags().IntVar(&f.version, "version", 1, "version of the key, from 1")
	c.Flags().StringVar(&f.cryptogram, "cryptogram", "", "the key under the LMK, with its scheme letter")
	c.Flags().StringVar(&f.kcv, "kcv", "", "check value from the ceremony's protocol (6 to 16 hex digits); it is compared with the HSM's")
	for _, name := range []string{"config", "name", "usage", "cryptogram"} {
		_ = c.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return c
}

func importKey(ctx context.Context, f importFlags, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, importBound)
	defer cancel()
	cfg := keyservice.DefaultConfig()
	if err := service.LoadConfig(f.config, &cfg); err != nil {
		return err
	}
	key := keys.Wrapped{Version: f.version, Domain: cfg.HSM.Domain, Cryptogram: f.cryptogram}
	var expect keys.KCV
	if key.Usage, err = keys.ParseUsage(f.usage); err != nil {
		return fmt.Errorf("--usage: %w", err)
	}
	if key.Algorithm, err = keys.ParseAlgorithm(f.algorithm); err != nil {
		return fmt.Errorf("--algorithm: %w", err)
	}
	if f.kcv != "" {
		if expect, err = keys.ParseKCV(f.kcv); err != nil {
			return fmt.Errorf("--kcv: %w", err)
		}
	}
	log, err := service.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	hsm, err := newHSM(issuingGroup, cfg.Profile, cfg.HSM, log, service.NewRegistry())
	if err != nil {
		return err
	}
	parts := service.NewLifecycle(log)
	defer func() { err = errors.Join(err, stopParts(ctx, parts)) }()
	if err := hsm.Start(ctx); err != nil {
		return err
	}
	parts.Add("hsm", 3*time.Second, hsm.Stop)
	pool, err := pgpool.FromConfig(ctx, cfg.Database)
	if err != nil {
		return err
	}
	parts.Add("database connections", 3*time.Second, func(context.Context) error { pool.Close(); return nil })
	if err := hsm.Wait(ctx); err != nil {
		return err
	}
	k, err := keyservice.Import(ctx, keystore.New(pool), hsm, cfg.Profile, f.name, key, expect, "cli:"+userName())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s %s/%s version %d, check value %s: stored\n", k.Name, k.Usage, k.Algorithm, k.Version, k.KCV)
	return err
}

// userName is who runs the command, for the audit record.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
