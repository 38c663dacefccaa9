package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/rewrap"
)

// rewrapPath is where the key service serves the moves of keys.
const rewrapPath = "/v1/rewraps"

// watchRewrap is how often a job that is watched is asked for: its counts change with each batch.
const watchRewrap = time.Second

// rewrapCommand makes "posp hsm rewrap". It asks the key service, which alone may move keys.
func rewrapCommand(c *hsmClient) *cobra.Command {
	root := group(&cobra.Command{
		Use: "rewrap", Short: "Move the key service's keys from one LMK domain to another: a new LMK, or another maker's HSMs",
		Long: "Moves every key from one LMK domain to another while both serve: copy in the background with check values computed before and after,\n" +
			"switch, whole or in shares, back at any time, and retire the old domain when nothing lives there any more (docs/hsm-rewrap.md).\n\n" +
			"It talks to the key service, so --config names its client file (hsm-issuing.yaml in dev mode). Orders need a certificate that\n" +
			"rewrap.operators of the key service names. JOB may be left out where one job is open.",
		Example: "  posp hsm rewrap start --from lmk-2019 --to lmk-2026 --watch\n" +
			"  posp hsm rewrap key --posp posp.yaml\n" +
			"  posp hsm rewrap switch --share 5 --watch\n" +
			"  posp hsm rewrap switch --all --watch\n" +
			"  posp hsm rewrap report 1 --output json > proof.json\n" +
			"  posp hsm rewrap retire",
	})
	root.AddCommand(
		rewrapStart(c), rewrapStatus(c),
		rewrapOrder(c, "pause", "Stop copying after the batch that is under way"),
		rewrapResume(c), rewrapSwitch(c),
		rewrapOrder(c, "back", "Make every key work in the old domain again, at once"),
		rewrapOrder(c, "retire", "Erase the old domain's cryptograms for good, once nothing lives there"),
		rewrapOrder(c, "cancel", "Give a job up before any key works in the new domain"),
		rewrapReport(c), rewrapKey(c),
	)
	return root
}

// rewrapCall asks the key service.
func (c *hsmClient) rewrapCall(ctx context.Context, method, path string, in, out any) error {
	cfg, err := c.settings()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(cfg.URL, "https://") || cfg.Cert == "" || cfg.Key == "" || cfg.CA == "" {
		return &usageError{"the key service serves https:// only, to clients with cert, key and ca; which client file is its own?"}
	}
	tlsConfig, err := httpapi.ClientTLS(cfg.Cert, cfg.Key, cfg.CA)
	if err != nil {
		return &usageError{err.Error()}
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, hsmCallTimeout)
	defer cancel()
	base := strings.TrimSuffix(cfg.URL, "/")
	call := httpapi.Call{Method: method, URL: base + rewrapPath + path, Body: in}
	if method == http.MethodPost {
		call.IdempotencyKey = rand.Text()
	}
	err = call.Do(ctx, &http.Client{Transport: transport}, out)
	if refused, ok := errors.AsType[*httpapi.Refusal](err); ok && refused.Status == http.StatusNotFound && (refused.Detail == "" || strings.Contains(refused.NextStep, "/openapi.json")) {
		return &exitError{exitNotFound, fmt.Errorf("%s moves no keys, the key service does; name its client file with --config (hsm-issuing.yaml in dev mode)", base)}
	}
	return explained(base, err)
}

// rewrapJob gives the number of the job that is meant: the argument, or that of the only open job.
func (c *hsmClient) rewrapJob(ctx context.Context, args []string) (int64, error) {
	if len(args) > 0 {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || id < 1 {
			return 0, &usageError{fmt.Sprintf("%q is no number of a job; see posp hsm rewrap status", args[0])}
		}
		return id, nil
	}
	list, err := c.rewrapJobs(ctx)
	if err != nil {
		return 0, err
	}
	var open []int64
	for _, j := range list {
		if j.State.Open() {
			open = append(open, j.ID)
		}
	}
	switch len(open) {
	case 1:
		return open[0], nil
	case 0:
		return 0, &exitError{exitNotFound, errors.New("no job is open; start one, or name the number of an old one")}
	}
	return 0, &usageError{fmt.Sprintf("jobs %v are open: which one is meant?", open)}
}

func (c *hsmClient) rewrapJobs(ctx context.Context) ([]rewrap.Job, error) {
	var list struct {
		Jobs []rewrap.Job `json:"jobs"`
	}
	err := c.rewrapCall(ctx, http.MethodGet, "", nil, &list)
	return list.Jobs, err
}

func rewrapStart(c *hsmClient) *cobra.Command {
	var plan rewrap.Plan
	var watch bool
	cmd := &cobra.Command{
		Use: "start", Short: "Start to copy all keys of a domain; the first keys are moved for a trial before", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var j rewrap.Job
			if err := c.rewrapCall(cmd.Context(), http.MethodPost, "", plan, &j); err != nil {
				return err
			}
			return c.rewrapDone(cmd, j, watch)
		},
	}
	f := cmd.Flags()
	f.StringVar(&plan.From, "from", "", "LMK domain that the keys leave")
	f.StringVar(&plan.To, "to", "", "LMK domain that they move to")
	f.StringVar((*string)(&plan.Method), "method", string(rewrap.Translate), "translate: inside a device that holds both LMKs; zmk: under a zone master key")
	f.StringVar(&plan.ZMK, "zmk", "", "name of the zone master key of method zmk, imported in both domains")
	f.IntVar(&plan.Rate, "rate", 0, "keys per second at most; 0: 10")
	f.BoolVarP(&watch, "watch", "w", false, "show the progress until it is copied")
	for _, name := range []string{"from", "to"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

// rewrapOrder makes a command that gives one order without details.
func rewrapOrder(c *hsmClient, name, short string) *cobra.Command {
	return rewrapOrderWith(c, name, short, func() (any, error) { return struct{}{}, nil })
}

func rewrapOrderWith(c *hsmClient, name, short string, body func() (any, error)) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: name + " [JOB]", Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := body()
			if err != nil {
				return err
			}
			id, err := c.rewrapJob(cmd.Context(), args)
			if err != nil {
				return err
			}
			var j rewrap.Job
			if err := c.rewrapCall(cmd.Context(), http.MethodPost, fmt.Sprintf("/%d/%s", id, name), in, &j); err != nil {
				return err
			}
			return c.rewrapDone(cmd, j, watch)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show the progress until it is done")
	return cmd
}

func rewrapResume(c *hsmClient) *cobra.Command {
	var rate int
	cmd := rewrapOrderWith(c, "resume", "Go on copying, also of the keys that differed before", func() (any, error) {
		return map[string]int{"rate": rate}, nil
	})
	cmd.Flags().IntVar(&rate, "rate", 0, "keys per second at most from now on; 0: as before")
	return cmd
}

func rewrapSwitch(c *hsmClient) *cobra.Command {
	var sel rewrap.Selection
	var all bool
	cmd := rewrapOrderWith(c, "switch", "Make keys work in the new domain; the old cryptograms stay as twins", func() (any, error) {
		if all {
			if sel.Share != 0 || len(sel.Cards)+len(sel.Names) > 0 {
				return nil, &usageError{"--all is every key: leave the others out"}
			}
			sel.Share = 100
		}
		if sel.Share == 0 && len(sel.Cards)+len(sel.Names) == 0 {
			return nil, &usageError{"which keys? Give --all, --share, --card or --name"}
		}
		return sel, nil
	})
	cmd.Long = "Makes the selected keys work in the new domain. It is refused while a key differs, or while a posp has no device or no zone PIN key\n" +
		"there. Orders add up; \"back\" takes all of them back. A share counts cards, whose keys change over together; root keys change with --all."
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "every key")
	f.IntVar(&sel.Share, "share", 0, "percent of the cards, 1 to 100")
	f.StringSliceVar(&sel.Cards, "card", nil, "PSAM numbers, separated by commas")
	f.StringSliceVar(&sel.Names, "name", nil, "names of keys, separated by commas")
	return cmd
}

func rewrapStatus(c *hsmClient) *cobra.Command {
	var w watched
	cmd := &cobra.Command{
		Use: "status [JOB]", Short: "Show one job with its progress, or all jobs", Args: cobra.MaximumNArgs(1),
		Long: "Shows a job with its progress and with what a switch or the end still waits for. Without JOB it shows the one that is open, or a list.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				list, err := c.rewrapJobs(cmd.Context())
				if err != nil {
					return err
				}
				open := 0
				for _, j := range list {
					if j.State.Open() {
						open++
					}
				}
				if open != 1 {
					return c.showJobs(cmd.OutOrStdout(), list)
				}
			}
			id, err := c.rewrapJob(cmd.Context(), args)
			if err != nil {
				return err
			}
			return w.show(cmd.Context(), cmd.OutOrStdout(), c.drawRewrap(id))
		},
	}
	w.flags(cmd)
	return cmd
}

func rewrapReport(c *hsmClient) *cobra.Command {
	var differences bool
	cmd := &cobra.Command{
		Use: "report [JOB]", Short: "The proof: for every key the check value stored, computed before, and computed after", Args: cobra.MaximumNArgs(1),
		Long: "The proof by check values, for every key of the job, as a table or as JSON. It stays available after the job has ended.\n\n" +
			"Exit codes: 0 every key agrees, 7 some differ; 1 to 6 as for every command of posp hsm.",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := c.rewrapJob(cmd.Context(), args)
			if err != nil {
				return err
			}
			report, err := c.rewrapProof(cmd.Context(), id, differences)
			if err != nil {
				return err
			}
			if err := c.showProof(cmd.OutOrStdout(), report); err != nil {
				return err
			}
			if report.Differ > 0 {
				return &exitError{exitRewrapDiffers, fmt.Errorf("%d keys differ", report.Differ)}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&differences, "differences", false, "only the keys that differ")
	return cmd
}

// exitRewrapDiffers is the exit code of a report with differences.
const exitRewrapDiffers = 7

// proofReport is a whole report.
type proofReport struct {
	Job    rewrap.Job     `json:"job"`
	At     time.Time      `json:"at"`
	Good   int            `json:"good"`
	Differ int            `json:"differ"`
	Lines  []rewrap.Proof `json:"lines"`
}

// rewrapProof reads every page of a report.
func (c *hsmClient) rewrapProof(ctx context.Context, id int64, differences bool) (proofReport, error) {
	report := proofReport{At: time.Now().UTC(), Lines: []rewrap.Proof{}}
	for query := (url.Values{}); ; {
		var page rewrap.Page
		if err := c.rewrapCall(ctx, http.MethodGet, fmt.Sprintf("/%d/report?%s", id, query.Encode()), nil, &page); err != nil {
			return report, err
		}
		report.Job = page.Job
		for _, line := range page.Lines {
			if line.Good {
				report.Good++
			} else {
				report.Differ++
			}
			if !line.Good || !differences {
				report.Lines = append(report.Lines, line)
			}
		}
		if page.Next == 0 {
			return report, nil
		}
		query.Set("after", strconv.FormatInt(page.Next, 10))
	}
}
