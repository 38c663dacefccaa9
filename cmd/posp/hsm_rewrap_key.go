package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// configuredKey is a key of a configuration, as the key service takes and gives it.
type configuredKey struct {
	Usage      keys.Usage     `json:"usage"`
	Algorithm  keys.Algorithm `json:"algorithm"`
	Version    int            `json:"version"`
	Domain     string         `json:"domain,omitempty"`
	Cryptogram string         `json:"cryptogram"`
	KCV        keys.KCV       `json:"kcv,omitempty"`
}

// convertedKey is one line of the answer: the setting and its twin.
type convertedKey struct {
	Place string `json:"place,omitempty"`
	configuredKey
}

// keyFlags are what "posp hsm rewrap key" takes.
type keyFlags struct {
	posp, usage, algorithm, cryptogram, kcv string
	version                                 int
}

func rewrapKey(c *hsmClient) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use: "key [JOB]", Short: "Give the twin of a configured key (zpk, zak, seal) in the job's new domain", Args: cobra.MaximumNArgs(1),
		Long: "Gives the cryptogram of keys that stand in posp's configuration in the job's new domain, proven by check value, ready to be put under\n" +
			"twins of the same setting. With --posp all keys of a configuration file; else one key, as the flags say. A cryptogram is worth\n" +
			"nothing outside the HSM.",
		Example: "  posp hsm rewrap key --posp posp.yaml\n" +
			"  posp hsm rewrap key --usage zpk --algorithm tdes --version 1 --cryptogram U… --kcv 08D7B4",
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := f.keys()
			if err != nil {
				return err
			}
			id, err := c.rewrapJob(cmd.Context(), args)
			if err != nil {
				return err
			}
			return c.convertKeys(cmd.Context(), id, list, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.posp, "posp", "", "configuration file of posp: all of its keys")
	flags.StringVar(&f.usage, "usage", "", "zpk, zak or seal")
	flags.StringVar(&f.algorithm, "algorithm", "tdes", "tdes or sm4")
	flags.IntVar(&f.version, "version", 1, "version of the key")
	flags.StringVar(&f.cryptogram, "cryptogram", "", "the key in the old domain")
	flags.StringVar(&f.kcv, "kcv", "", "check value from the ceremony's protocol")
	return cmd
}

// keys gives what is to be converted.
func (f *keyFlags) keys() ([]convertedKey, error) {
	if (f.posp == "") == (f.cryptogram == "") {
		return nil, &usageError{"give --posp FILE, or one key with --usage and --cryptogram"}
	}
	if f.posp != "" {
		cfg := posp.DefaultConfig()
		if err := service.LoadConfig(f.posp, &cfg); err != nil {
			return nil, err
		}
		var list []convertedKey
		add := func(place string, usage keys.Usage, k posp.KeyConfig) {
			list = append(list, convertedKey{place, configuredKey{usage, k.Algorithm, k.Version, k.Domain, k.Cryptogram, k.KCV}})
		}
		for _, h := range cfg.Hosts {
			add("hosts."+h.Name+".zpk", keys.ZonePIN, h.ZPK)
			add("hosts."+h.Name+".zak", keys.ZoneMAC, h.ZAK)
		}
		add("seal_key", keys.Seal, cfg.SealKey)
		return list, nil
	}
	one := convertedKey{configuredKey: configuredKey{Version: f.version, Cryptogram: f.cryptogram}}
	var err error
	if one.Usage, err = keys.ParseUsage(f.usage); err != nil {
		return nil, &usageError{"--usage: " + err.Error()}
	}
	if one.Algorithm, err = keys.ParseAlgorithm(f.algorithm); err != nil {
		return nil, &usageError{"--algorithm: " + err.Error()}
	}
	if f.kcv != "" {
		if one.KCV, err = keys.ParseKCV(f.kcv); err != nil {
			return nil, &usageError{"--kcv: " + err.Error()}
		}
	}
	return []convertedKey{one}, nil
}

// convertKeys prints the twins as they stand in the configuration, or as JSON.
func (c *hsmClient) convertKeys(ctx context.Context, id int64, list []convertedKey, out io.Writer) error {
	for i := range list {
		k := &list[i]
		var twin configuredKey
		if err := c.rewrapCall(ctx, http.MethodPost, fmt.Sprintf("/%d/keys", id), k.configuredKey, &twin); err != nil {
			if k.Place != "" {
				return fmt.Errorf("%s: %w", k.Place, err)
			}
			return err
		}
		k.configuredKey = twin
	}
	if c.output == "json" {
		return indented(out, list)
	}
	for _, k := range list {
		if k.Place == "" {
			k.Place = k.Usage.String()
		}
		if _, err := fmt.Fprintf(out, "# %s, check value %s in %s as before\ntwins: [{domain: %s, cryptogram: %s, kcv: %q}]\n", k.Place, k.KCV, k.Domain, k.Domain, k.Cryptogram, k.KCV); err != nil {
			return err
		}
	}
	return nil
}
