package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/hsmclient"
	hsmcommand "github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/hsmconfig"
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

	hsm, err := issuing(cfg).start(ctx, log, reg, parts)
	if err != nil {
		return err
	}
	opt := keyservice.Options{Config: cfg, HSM: hsm.Cluster, Operation: hsm.operation, Log: log, Registry: reg}
	if cfg.Rewrap.HSM != nil {
		migration, err := migrating(cfg).start(ctx, log, reg, parts)
		if err != nil {
			return fmt.Errorf("rewrap.hsm: %w", err)
		}
		opt.Migration = migration.Cluster
	}
	app, err := keyservice.New(opt)
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

// issuing is the key service's group. Whoever may ask the key service may look at it; its operators may change it.
func issuing(cfg keyservice.Config) hsmGroup {
	return hsmGroup{
		name: issuingGroup, instance: cfg.Instance, profile: cfg.Profile, cfg: cfg.HSM, needs: issuingNeeds, database: cfg.Database,
		operators: cfg.HSMOperation.Operators, relays: cfg.HSMOperation.Relays, readers: cfg.Clients,
	}
}

// migrating is the group for moving keys between LMK domains. It is configured for the time of the move only, and not operated while running.
func migrating(cfg keyservice.Config) hsmGroup {
	return hsmGroup{name: "migration", instance: cfg.Instance, profile: cfg.Profile, cfg: *cfg.Rewrap.HSM, needs: hsmcommand.CanCheck}
}

// importBound bounds "posp keys import": the database and the HSM may just be starting.
const importBound = 45 * time.Second

// importRetry is the wait before the devices are asked again: admission of a device takes some tenths of a second.
const importRetry = 100 * time.Millisecond

// noMember says that no device of the key's domain could be asked yet.
func noMember(err error) bool {
	e, ok := errors.AsType[*hsmcommand.Error](err)
	return ok && e.Class == hsmcommand.Unavailable
}

// importFlags are what "posp keys import" takes.
type importFlags struct {
	config, name, usage, algorithm, domain, cryptogram, kcv string
	version                                                 int
}

// importCommand makes "posp keys import". The cryptogram is no secret without the HSM and its LMK, so it may stand on a command line.
func importCommand() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use: "import", Short: "Store a key from a ceremony: a cryptogram under the LMK, checked by the HSM", Args: cobra.NoArgs,
		Long: "Stores a key from a ceremony: a cryptogram under the LMK, checked by the HSM. The same key under another LMK (--domain) becomes the twin of\n" +
			"the one that is there, for a move of keys between LMK domains (posp hsm rewrap).",
		Example: "  posp keys import --config keys.yaml --name PSAM-ROOT --usage root --algorithm tdes --version 1 --cryptogram U… --kcv 08D7B4\n" +
			"  posp keys import --config keys.yaml --name ZMK-MOVE --usage zmk --domain lmk-2026 --cryptogram S… --kcv 9A4F2C",
		RunE: func(cmd *cobra.Command, _ []string) error { return importKey(cmd.Context(), f, cmd.OutOrStdout()) },
	}
	c.Flags().StringVar(&f.config, "config", "", "configuration file of the key service (YAML)")
	c.Flags().StringVar(&f.name, "name", "", "PSAM-ROOT, PSAM-CCK, PSAM-ACK, PSAM-TRANSPORT, or a name of yours for a zone master key")
	c.Flags().StringVar(&f.usage, "usage", "", "root for the first three, card-control for PSAM-TRANSPORT, zmk for a zone master key")
	c.Flags().StringVar(&f.algorithm, "algorithm", "tdes", "tdes or sm4")
	c.Flags().StringVar(&f.domain, "domain", "", "LMK domain of the cryptogram; empty: hsm.domain of the configuration")
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
	key := keys.Wrapped{Version: f.version, Domain: f.domain, Cryptogram: f.cryptogram}
	if key.Domain == "" {
		key.Domain = cfg.HSM.Domain
	}
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
	parts := service.NewLifecycle(log)
	defer func() { err = errors.Join(err, stopParts(ctx, parts)) }()
	group, err := importGroup(cfg, key)
	if err != nil {
		return err
	}
	hsm, err := importCluster(ctx, group, log, parts)
	if err != nil {
		return err
	}
	pool, err := pgpool.FromConfig(ctx, cfg.Database)
	if err != nil {
		return err
	}
	parts.Add("database connections", 3*time.Second, func(context.Context) error { pool.Close(); return nil })
	k, err := keyservice.Import(ctx, keystore.New(pool), hsm, cfg.Profile, f.name, key, expect, "cli:"+userName())
	for noMember(err) && ctx.Err() == nil { // of the key's domain: the group has just been started
		select {
		case <-ctx.Done():
		case <-time.After(importRetry):
			k, err = keyservice.Import(ctx, keystore.New(pool), hsm, cfg.Profile, f.name, key, expect, "cli:"+userName())
		}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s %s/%s version %d, check value %s: stored\n", k.Name, k.Usage, k.Algorithm, k.Version, k.KCV)
	return err
}

// importGroup is the group whose devices can check a key of this LMK domain. A zone master key is the migration group's business where there is one.
func importGroup(cfg keyservice.Config, key keys.Wrapped) (hsmGroup, error) {
	has := func(c hsmconfig.Config) bool {
		return c.Domain == key.Domain || slices.ContainsFunc(c.Domains, func(d hsmconfig.Domain) bool { return d.Name == key.Domain })
	}
	moves := cfg.Rewrap.HSM != nil && has(*cfg.Rewrap.HSM)
	switch {
	case moves && (key.Usage == keys.ZoneMaster || !has(cfg.HSM)):
		return migrating(cfg), nil
	case has(cfg.HSM):
		return issuing(cfg), nil
	}
	return hsmGroup{}, &usageError{fmt.Sprintf("--domain: neither hsm nor rewrap.hsm of the configuration has LMK domain %q", key.Domain)}
}

// importCluster is the group for one command: the members that the running service has, without journal, history and operation.
func importCluster(ctx context.Context, g hsmGroup, log *slog.Logger, parts *service.Lifecycle) (*hsmclient.Cluster, error) {
	specs, err := g.cfg.Specs(g.profile)
	if err != nil {
		return nil, err
	}
	if g.cfg.List.Shared {
		g.cfg.List.LocalCopy = "" // it belongs to the running service
		list, stored, err := g.list(ctx, specs, log, nil)
		if err != nil {
			return nil, err
		}
		parts.Add("hsm list", hsmStop, list.Stop)
		specs = stored
	}
	cluster, err := g.cluster(specs, nil, nil, log, service.NewRegistry())
	if err != nil {
		return nil, err
	}
	if err := cluster.Start(ctx); err != nil {
		return nil, err
	}
	parts.Add("hsm", hsmStop, cluster.Stop)
	return cluster, nil
}

// userName is who runs the command, for the audit record.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
