package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/txn"
)

// routeCommand makes "posp route". It asks posp where "posp hsm" does: on the listener for operators with certificates.
func routeCommand() *cobra.Command {
	c := &hsmClient{}
	root := group(&cobra.Command{
		Use: "route", Short: "Look at, try and change the rules that choose the host of a transaction",
		Long: "Looks at, tries and changes the routing of a running posp (docs/routing.md). A change is in force on every posp at once.\n\n" +
			"Where: --config names a file with url, cert, key and ca (YAML), the same as for \"posp hsm\"; without it " + hsmConfigVariable + " does.\n" +
			"Changes need a certificate that routing.operators of posp names.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong call, 3 refused by the service (the text names the line, says why and what to do), 4 not found,\n" +
			"5 not permitted, 6 no answer.",
		Example: "  posp route list\n" +
			"  posp route test --card 622202 --amount 10000 --file rules.yaml\n" +
			"  posp route set rules.yaml --reason \"5 percent to the new host\"\n" +
			"  posp route undo",
	})
	f := root.PersistentFlags()
	f.StringVar(&c.config, "config", os.Getenv(hsmConfigVariable), "client file with url, cert, key and ca ("+hsmConfigVariable+")")
	f.StringVar(&c.over.URL, "url", "", "address of posp, for example https://127.0.0.1:8084")
	f.StringVar(&c.over.Cert, "cert", "", "certificate of the operator (PEM)")
	f.StringVar(&c.over.Key, "key", "", "key of the certificate (PEM)")
	f.StringVar(&c.over.CA, "ca", "", "authority of the service's certificate (PEM)")
	f.StringVar(&c.output, "output", "table", "table or json")
	root.AddCommand(routeList(c), routeSet(c), routeUndo(c), routeTest(c), routeHistory(c))
	return root
}

// routeCall asks posp.
func (c *hsmClient) routeCall(ctx context.Context, method, path string, in, out any) error {
	cfg, err := c.settings()
	if err != nil {
		return err
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	if strings.HasPrefix(cfg.URL, "https://") {
		if transport.TLSClientConfig, err = httpapi.ClientTLS(cfg.Cert, cfg.Key, cfg.CA); err != nil {
			return &usageError{err.Error()}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, hsmCallTimeout)
	defer cancel()
	base := strings.TrimSuffix(cfg.URL, "/")
	call := httpapi.Call{Method: method, URL: base + route.Prefix + path, Body: in}
	if method == http.MethodPost {
		call.IdempotencyKey = rand.Text()
	}
	err = call.Do(ctx, &http.Client{Transport: transport}, out)
	if refused, ok := errors.AsType[*httpapi.Refusal](err); ok && refused.Status == http.StatusNotFound && refused.Detail == "" {
		return &exitError{exitNotFound, fmt.Errorf("%s knows nothing of routing; is it posp?", base)}
	}
	return explained(base, err)
}

func routeList(c *hsmClient) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Show the rules in force, with their version and the configured hosts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s route.Status
			if err := c.routeCall(cmd.Context(), http.MethodGet, "", nil, &s); err != nil {
				return err
			}
			if c.output == "json" {
				return indented(cmd.OutOrStdout(), s)
			}
			return showRoutes(cmd.OutOrStdout(), s)
		},
	}
}

// showRoutes prints comments and the document, so that the output can be edited and set again.
func showRoutes(w io.Writer, s route.Status) error {
	var out strings.Builder
	fmt.Fprintf(&out, "# version %d in force on %s; hosts: %s\n", s.Version.Version, s.Instance, strings.Join(s.Hosts, ", "))
	if s.Version.Version > 0 {
		fmt.Fprintf(&out, "# %s\n", savedHow(s.Version))
	}
	if s.Problem != "" {
		fmt.Fprintf(&out, "# PROBLEM: %s\n", strings.ReplaceAll(s.Problem, "\n", "\n#   "))
	}
	if s.DatabaseAway {
		fmt.Fprintf(&out, "# the database is away: newer rules cannot be seen, these stay in force\n")
	}
	if s.Version.Document == "" {
		out.WriteString("# no rules: the hosts above in their order\n")
	}
	out.WriteString(s.Version.Document)
	_, err := io.WriteString(w, out.String())
	return err
}

// savedHow is who saved a version, when, where and why, on one line.
func savedHow(v route.Version) string {
	text := fmt.Sprintf("saved by %s on %s at %s", v.SavedBy, v.Instance, v.SavedAt.Local().Format(time.DateTime))
	if v.Restores != nil {
		text += fmt.Sprintf(", brings version %d back", *v.Restores)
	}
	if v.Reason != "" {
		text += ": " + v.Reason
	}
	return text
}

// routeOrder adds the flags of a change and gives what they say.
func routeOrder(cmd *cobra.Command) func() route.Order {
	base := cmd.Flags().Int64("base", -1, "version that you have seen; left out: the newest that posp knows")
	reason := cmd.Flags().String("reason", "", "why, for the history")
	return func() route.Order {
		o := route.Order{Reason: *reason}
		if *base >= 0 {
			o.Base = base
		}
		return o
	}
}

func (c *hsmClient) routeSaved(cmd *cobra.Command, v route.Version) error {
	return c.say(cmd.OutOrStdout(), v, "version %d is in force, %s", v.Version, savedHow(v))
}

func routeSet(c *hsmClient) *cobra.Command {
	var order func() route.Order
	cmd := &cobra.Command{
		Use: "set FILE", Short: "Replace the rules by those of a file; - reads them from standard input", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readRules(cmd, args[0])
			if err != nil {
				return err
			}
			var v route.Version
			if err := c.routeCall(cmd.Context(), http.MethodPost, "", route.SetOrder{Document: text, Order: order()}, &v); err != nil {
				return err
			}
			return c.routeSaved(cmd, v)
		},
	}
	order = routeOrder(cmd)
	return cmd
}

// readRules reads a document of bounded size.
func readRules(cmd *cobra.Command, name string) (string, error) {
	from := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer func() { _ = file.Close() }() // only read
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, route.MaxDocument+1))
	if err != nil {
		return "", err
	}
	if len(text) > route.MaxDocument {
		return "", fmt.Errorf("%s has more than %d bytes; rules must be shorter", name, route.MaxDocument)
	}
	return string(text), nil
}

func routeUndo(c *hsmClient) *cobra.Command {
	var order func() route.Order
	to := int64(-1)
	cmd := &cobra.Command{
		Use: "undo", Short: "Bring the rules before the newest back, or those of a version", Args: cobra.NoArgs,
		Long: "Brings the rules before the newest back, as a new version. A second undo goes one further back; version 0 are no rules.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := route.UndoOrder{Order: order()}
			if cmd.Flags().Changed("to") {
				in.To = &to
			}
			var v route.Version
			if err := c.routeCall(cmd.Context(), http.MethodPost, "/undo", in, &v); err != nil {
				return err
			}
			return c.routeSaved(cmd, v)
		},
	}
	order = routeOrder(cmd)
	cmd.Flags().Int64Var(&to, "to", -1, "version to bring back; 0: no rules")
	return cmd
}

func routeTest(c *hsmClient) *cobra.Command {
	var q route.Question
	var at, file string
	cmd := &cobra.Command{
		Use: "test", Short: "Say which host a transaction would get, which rule says so, and why", Args: cobra.NoArgs,
		Long: "Says which host a transaction would get now, which rule says so, and why each rule before it does not fit. It changes nothing.\n" +
			"With --file it tries rules that are not in force. A card's first digits are enough, but a share by card needs the whole number;\n" +
			"give a whole number only of a test card, because the command line is visible on this machine.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if at != "" {
				t, err := time.Parse(time.RFC3339, at)
				if err != nil {
					return &usageError{"--at must look like 2026-01-31T08:00:00+08:00"}
				}
				q.At = &t
			}
			if file != "" {
				text, err := readRules(cmd, file)
				if err != nil {
					return err
				}
				q.Document = &text
			}
			var v route.Verdict
			if err := c.routeCall(cmd.Context(), http.MethodPost, "/test", q, &v); err != nil {
				return err
			}
			if c.output == "json" {
				return indented(cmd.OutOrStdout(), v)
			}
			return showVerdict(cmd.OutOrStdout(), v, file != "")
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.Card, "card", "", "card number, or its first digits")
	f.StringVar((*string)(&q.Kind), "kind", string(txn.Purchase), "kind of the transaction, for example refund")
	f.Int64Var(&q.Amount, "amount", 0, "amount in fen")
	f.StringVar(&q.Merchant, "merchant", "", "merchant number")
	f.StringVar(&q.Terminal, "terminal", "", "terminal number")
	f.StringVar(&q.Batch, "batch", "", "batch number, for a share by transaction")
	f.StringVar(&q.Trace, "trace", "", "trace number, for a share by transaction")
	f.StringVar(&at, "at", "", "time, for example 2026-01-31T08:00:00+08:00; left out: now")
	f.StringVar(&file, "file", "", "rules to try instead of those in force; - reads standard input")
	return cmd
}

func showVerdict(w io.Writer, v route.Verdict, tried bool) error {
	var out strings.Builder
	from := fmt.Sprintf("version %d", v.Version)
	if tried {
		from = "the rules to try"
	}
	host := "host " + v.Host
	if v.Host == "" {
		host = "no host is ready"
	}
	fmt.Fprintf(&out, "%s (%s)\n", host, from)
	fmt.Fprintf(&out, "%s\n", v.Why)
	for _, name := range v.Hosts {
		if why := v.NotReady[name]; why != "" {
			fmt.Fprintf(&out, "host %s is passed over: %s\n", name, why)
		}
	}
	for _, a := range v.Asked {
		if !a.Fits {
			fmt.Fprintf(&out, "rule %q (line %d) does not fit: %s\n", a.Rule, a.Line, a.Why)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func routeHistory(c *hsmClient) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "history", Short: "Show who changed the rules, when and why; the newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list route.List
			if err := c.routeCall(cmd.Context(), http.MethodGet, fmt.Sprintf("/versions?limit=%d", limit), nil, &list); err != nil {
				return err
			}
			if c.output == "json" {
				return indented(cmd.OutOrStdout(), list)
			}
			var out strings.Builder
			for _, v := range list.Items {
				fmt.Fprintf(&out, "%d  %s\n", v.Version, savedHow(v))
			}
			if len(list.Items) == 0 {
				out.WriteString("no rules were ever saved\n")
			}
			_, err := io.WriteString(cmd.OutOrStdout(), out.String())
			return err
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many")
	return cmd
}
