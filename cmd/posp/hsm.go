package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/service"
)

const (
	// hsmCallTimeout bounds one call; a drain waits up to a minute for what is under way.
	hsmCallTimeout = 75 * time.Second
	// completionTimeout bounds the question for names while somebody types.
	completionTimeout = 2 * time.Second
	// hsmConfigVariable names the client file where --config does not.
	hsmConfigVariable = "KEYWARD_HSM_CONFIG"
)

// hsmClient calls the HSM operation of one service as the flags of "posp hsm" say. Every command of the group has it.
type hsmClient struct {
	config, output string
	over           hsmops.ClientConfig // flags that overrule the file
	reason         string
	force          bool
}

// hsmFile is the client file: paths are relative to it.
type hsmFile struct {
	URL  string             `yaml:"url"`
	Cert string             `yaml:"cert"`
	Key  service.SecretFile `yaml:"key"`
	CA   string             `yaml:"ca"`
}

// hsmCommand makes "posp hsm" with everything below it.
func hsmCommand() *cobra.Command {
	c := &hsmClient{}
	root := group(&cobra.Command{
		Use: "hsm", Short: "Look at and operate the HSM cluster of a running posp or key service",
		Long: "Looks at and operates the HSM cluster of a running service, over HTTPS with the certificate of an operator.\n\n" +
			"Where: --config names a file with url, cert, key and ca (YAML); without it " + hsmConfigVariable + " does. The flags --url, --cert, --key\n" +
			"and --ca overrule it. \"keyward dev\" writes such files into config/ of its data directory: hsm.yaml for posp, hsm-issuing.yaml for\n" +
			"the key service.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong call, 3 refused by the service (the text says why and what to do), 4 no such member or domain,\n" +
			"5 not permitted, 6 no answer; of a drill also 7 failed, 8 incomplete.",
		Example: "  export " + hsmConfigVariable + "=./.keyward/config/hsm.yaml\n" +
			"  posp hsm list --watch\n" +
			"  posp hsm drain hsm2 --reason \"new firmware\"\n" +
			"  posp hsm history --follow",
	})
	f := root.PersistentFlags()
	f.StringVar(&c.config, "config", os.Getenv(hsmConfigVariable), "client file with url, cert, key and ca ("+hsmConfigVariable+")")
	f.StringVar(&c.over.URL, "url", "", "address of the service, for example https://127.0.0.1:8084")
	f.StringVar(&c.over.Cert, "cert", "", "certificate of the operator (PEM)")
	f.StringVar(&c.over.Key, "key", "", "key of the certificate (PEM)")
	f.StringVar(&c.over.CA, "ca", "", "authority of the service's certificate (PEM)")
	f.StringVar(&c.output, "output", "table", "table or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	root.AddGroup(&cobra.Group{ID: "look", Title: "Look:"}, &cobra.Group{ID: "members", Title: "Change members:"},
		&cobra.Group{ID: "engine", Title: "Engine, queues, journal:"}, &cobra.Group{ID: "keep", Title: "Make permanent, exercise, move keys, prepare tokens:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, one := range commands {
			one.GroupID = group
			root.AddCommand(one)
		}
	}
	add("look", listHSMs(c), showHSM(c), historyCommand(c), engineCommand(c), queuesCommand(c))
	add("members", addHSM(c), removeHSM(c), drainHSM(c), stateCommand(c), priorityCommand(c), weightCommand(c), ratedCommand(c), probeCommandCommand(c), probeCommand(c))
	add("engine", monitoringCommand(c), switchableJournal(c))
	add("keep", saveCommand(c), savedCommand(c), drillCommand(c), rewrapCommand(c), tokenCommand(c))
	return root
}

// settings reads the client file and the flags.
func (c *hsmClient) settings() (hsmops.ClientConfig, error) {
	var out hsmops.ClientConfig
	if c.output != "table" && c.output != "json" {
		return out, &usageError{"--output must be table or json"}
	}
	if c.config != "" {
		var file hsmFile
		if err := service.LoadConfig(c.config, &file); err != nil {
			return out, err
		}
		beside := func(path string) string {
			if path == "" || filepath.IsAbs(path) {
				return path
			}
			return filepath.Join(filepath.Dir(c.config), path)
		}
		out = hsmops.ClientConfig{URL: file.URL, Cert: beside(file.Cert), Key: string(file.Key), CA: beside(file.CA)}
	}
	for to, from := range map[*string]string{&out.URL: c.over.URL, &out.Cert: c.over.Cert, &out.Key: c.over.Key, &out.CA: c.over.CA} {
		if from != "" {
			*to = from
		}
	}
	if out.URL == "" {
		return out, &usageError{"which service is meant? Give --config FILE, set " + hsmConfigVariable + ", or give --url, --cert, --key and --ca"}
	}
	return out, nil
}

// open makes the client.
func (c *hsmClient) open() (*hsmops.Client, error) {
	cfg, err := c.settings()
	if err != nil {
		return nil, err
	}
	client, err := hsmops.NewClient(cfg)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	return client, nil
}

// get reads a path below /v1/hsm.
func (c *hsmClient) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.with(ctx, func(ctx context.Context, client *hsmops.Client) error { return client.Get(ctx, path, query, out) })
}

// do orders a change at a path below /v1/hsm.
func (c *hsmClient) do(ctx context.Context, path string, in, out any) error {
	return c.with(ctx, func(ctx context.Context, client *hsmops.Client) error { return client.Do(ctx, path, in, out) })
}

func (c *hsmClient) with(ctx context.Context, call func(context.Context, *hsmops.Client) error) error {
	client, err := c.open()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, hsmCallTimeout)
	defer cancel()
	return explained(client.URL(), call(ctx, client))
}

// explained makes a sentence with the right exit code of what a call has met.
func explained(where string, err error) error {
	var refused *httpapi.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		text := refused.Detail
		if text == "" {
			text = fmt.Sprintf("%s answers %d %s", where, refused.Status, http.StatusText(refused.Status))
		}
		if refused.NextStep != "" {
			text += "; " + refused.NextStep
		}
		code := exitFailure
		switch {
		case refused.Status == http.StatusNotFound:
			code = exitNotFound
		case refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden:
			code = exitForbidden
		case refused.Status/100 == 4:
			code = exitRefused
		}
		return &exitError{code, errors.New(text)}
	case errors.Is(err, httpapi.ErrNoAnswer):
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err // the address has been said
		}
		next := "does the service run, and is the address right?"
		if strings.Contains(err.Error(), "tls:") || strings.Contains(err.Error(), "x509:") {
			next = "certificate, key and authority must be those of this service"
		}
		return &exitError{exitNoAnswer, fmt.Errorf("%s does not answer: %w; %s", where, err, next)}
	case errors.Is(err, httpapi.ErrNotOurs):
		return &exitError{exitNoAnswer, fmt.Errorf("the answer of %s is not that of an HSM operation: %w", where, err)}
	}
	return err
}

// orders adds the flags of a change, and gives what they say when it is called.
func (c *hsmClient) orders(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the history")
	cmd.Flags().BoolVar(&c.force, "force", false, "do it although the service would refuse for safety")
	return cmd
}

func (c *hsmClient) order() hsmops.Order { return hsmops.Order{Reason: c.reason, Force: c.force} }

// names completes the names of members from the running service.
func (c *hsmClient) names(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var list hsmops.Page[member.Status]
	if err := c.get(ctx, "/members", nil, &list); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	out := make([]string, 0, len(list.Items))
	for _, s := range list.Items {
		out = append(out, s.Spec.Name+"\t"+string(s.State)+" "+s.Spec.Addr)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// say prints a value as JSON, or a sentence.
func (c *hsmClient) say(w io.Writer, value any, format string, args ...any) error {
	if c.output == "json" {
		return indented(w, value)
	}
	_, err := fmt.Fprintf(w, format+"\n", args...)
	return err
}

func indented(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// jsonLine prints a value on one line, for lists that go on.
func jsonLine(w io.Writer, value any) error { return json.NewEncoder(w).Encode(value) }
