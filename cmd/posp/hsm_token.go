package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/hsmclient/pkcs11"
	"github.com/keyward/keyward/keys"
)

// tokenTimeout bounds the preparation of a token: devices make a key in well under a second.
const tokenTimeout = 30 * time.Second

// tokenFlags say which token is meant, with the names of the driver's settings.
type tokenFlags struct {
	library, token, slot, pinFile, lmkLabel string
}

func (f *tokenFlags) settings() map[string]string {
	out := map[string]string{}
	for name, value := range map[string]string{"token": f.token, "slot": f.slot, "pin_file": f.pinFile, "lmk_label": f.lmkLabel} {
		if value != "" {
			out[name] = value
		}
	}
	return out
}

// tokenCommand makes "posp hsm token". It works on a token directly and needs no running service.
func tokenCommand(c *hsmClient) *cobra.Command {
	f := &tokenFlags{}
	root := group(&cobra.Command{
		Use: "token", Short: "Prepare a PKCS#11 token, without a running service",
		Long: "Prepares a PKCS#11 token to be a member of the driver pkcs11 (docs/hsm-driver.md). It loads the library itself, asks no service, and shows\n" +
			"no clear key. The PIN is that of the token's user, in a file that only its owner may read.",
		Example: "  posp hsm token make-lmk --library /usr/lib/softhsm/libsofthsm2.so --token \"keyward 1\" --pin-file pin --lmk-label LMK\n" +
			"  posp hsm token make-seal-key --library /usr/lib/softhsm/libsofthsm2.so --token \"keyward 1\" --pin-file pin --lmk-label LMK",
	})
	flags := root.PersistentFlags()
	flags.StringVar(&f.library, "library", "", "path of the PKCS#11 library")
	flags.StringVar(&f.token, "token", "", "label of the token")
	flags.StringVar(&f.slot, "slot", "", "number of its slot, instead of the label")
	flags.StringVar(&f.pinFile, "pin-file", "", "file with the PIN of the token's user")
	flags.StringVar(&f.lmkLabel, "lmk-label", "", "label of the LMK key in the token")
	root.AddCommand(
		f.command("make-lmk", "Make the LMK key in the token, for tokens that copy keys among each other", func(ctx context.Context, out io.Writer) error {
			return f.sayCheck(ctx, c, out, pkcs11.MakeLMK)
		}),
		f.command("restrict-lmk", "Take from a loaded LMK key what it must not be able to do", func(ctx context.Context, out io.Writer) error {
			return f.sayCheck(ctx, c, out, pkcs11.RestrictLMK)
		}),
		f.command("make-seal-key", "Make a sealing key in the token and show it wrapped under the LMK key", func(ctx context.Context, out io.Writer) error {
			key, err := pkcs11.MakeSealKey(ctx, f.library, f.settings())
			if err != nil {
				return err
			}
			return c.say(out, map[string]string{"usage": key.Usage.String(), "algorithm": key.Algorithm.String(), "cryptogram": key.Cryptogram, "kcv": string(key.KCV)},
				"usage:      %s\nalgorithm:  %s\ncryptogram: %s\nkcv:        %s", key.Usage, key.Algorithm, key.Cryptogram, key.KCV)
		}),
	)
	return root
}

func (f *tokenFlags) command(use, short string, do func(context.Context, io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.library == "" {
				return &usageError{"which PKCS#11 library? Give --library with its path"}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), tokenTimeout)
			defer cancel()
			return do(ctx, cmd.OutOrStdout())
		},
	}
}

// sayCheck does what gives an LMK check value, and shows it.
func (f *tokenFlags) sayCheck(ctx context.Context, c *hsmClient, out io.Writer, do func(context.Context, string, map[string]string) (keys.KCV, error)) error {
	got, err := do(ctx, f.library, f.settings())
	if err != nil {
		return err
	}
	return c.say(out, map[string]keys.KCV{"lmk_check": got}, "LMK check value: %s", got)
}
