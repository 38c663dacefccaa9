package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/hsmclient/drill"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmops"
)

// Exit codes of a drill's verdict, beside those of every command.
const (
	exitDrillFailed     = 7
	exitDrillIncomplete = 8
)

// verdictOf is nil for a drill that passed, else an error with the exit code of the verdict.
func verdictOf(id string, verdict drill.Result, cause string) error {
	text, code := fmt.Sprintf("drill %s: %s", id, verdict), exitDrillIncomplete
	if cause != "" {
		text += ": " + cause
	}
	switch verdict {
	case drill.Passed:
		return nil
	case drill.Failed:
		code = exitDrillFailed
	default:
	}
	return &exitError{code, errors.New(text)}
}

// drillCommand makes "posp hsm drill".
func drillCommand(c *hsmClient) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drill", Short: "Failure drill: take a member out on a running system, watch, put it back, report",
		Long: "A drill simulates the failure of one HSM on our side of the line, while the system runs: connections are refused, nothing answers,\n" +
			"answers come late, or the diagnosis shows another LMK. It measures how soon the cluster notices, how soon requests go elsewhere, and\n" +
			"what their callers feel; then it puts the member back and judges against limits. The device itself is not touched.\n\n" +
			"It is refused when it would take the last working member of a domain or when the others could not carry the load (--force overrules),\n" +
			"and it ends early when requests fail, when another member fails for real, and when this command ends.\n\n" +
			"Exit codes: 0 passed, 7 failed, 8 incomplete; 1 to 6 as for every command of posp hsm.",
	}
	cmd.AddCommand(drillStart(c), drillStatus(c), drillStop(c), drillReport(c), drillList(c))
	return cmd
}

// attendedLease is how long a drill goes on without hearing from this command.
const attendedLease = 10 * time.Second

// startFlags are what "posp hsm drill start" takes.
type startFlags struct {
	in                                     hsmops.DrillOrder
	kind, load                             string
	delay, before, during, after           time.Duration
	detection, switched, recovery, noticed time.Duration
	detach                                 bool
	out                                    []string
}

func drillStart(c *hsmClient) *cobra.Command {
	var s startFlags
	cmd := &cobra.Command{
		Use: "start MEMBER", Short: "Start a drill and watch it to its end; Ctrl-C ends it early and puts the member back", Args: cobra.ExactArgs(1),
		ValidArgsFunction: c.names,
		Example: "  posp hsm drill start hsm2 --kind black_hole --out drill.html\n" +
			"  posp hsm drill start hsm2 --kind slow --delay 500ms --during 1m --out drill.html --out drill.json\n" +
			"  posp hsm drill start hsm2 --kind wrong_lmk --detach",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFiles(s.out); err != nil {
				return err
			}
			if s.detach && len(s.out) > 0 {
				return &usageError{"--out needs the end of the drill: leave --detach out, or fetch the report later with posp hsm drill report"}
			}
			return c.withoutEnd(func(client *hsmops.Client) error {
				return startDrill(cmd, c, client, s.order(args[0], c), s.detach, s.out)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.kind, "kind", string(member.FaultRefuse), "how the member fails: refuse, black_hole, slow, wrong_lmk")
	f.DurationVar(&s.delay, "delay", 0, "how late answers come, with --kind slow (default 200ms)")
	f.DurationVar(&s.before, "before", 0, "how long to measure before the fault (default 5s)")
	f.DurationVar(&s.during, "during", 0, "how long the fault lasts (default 15s)")
	f.DurationVar(&s.after, "after", 0, "how long to measure when the member is back (default 5s)")
	f.StringVar(&s.load, "load", string(drill.LoadAuto), "own harmless requests: auto (when there is little traffic), on, off")
	f.IntVar(&s.in.Rate, "rate", 0, "own requests per second (default 20)")
	f.IntVar(&s.in.AbortAfter, "abort-after", 0, "end early after so many failed requests of traffic (default 20)")
	f.DurationVar(&s.detection, "limit-detection", 0, "limit from the fault to the member being suspect (default 2s)")
	f.DurationVar(&s.switched, "limit-switch", 0, "limit from the fault to the end of the last request it disturbed (default 3s)")
	f.IntVar(&s.in.Limits.Failed, "limit-failed", 0, "how many requests may fail")
	f.Float64Var(&s.in.Limits.LatencyFactor, "limit-latency", 0, "how many times slower the 95th percentile may be (default 3)")
	f.DurationVar(&s.noticed, "latency-floor", 0, "latency below which any factor passes (default 20ms)")
	f.DurationVar(&s.recovery, "limit-recovery", 0, "limit from the end of the fault to the member being healthy (default 30s)")
	f.BoolVar(&s.detach, "detach", false, "return at once; the drill runs on unattended")
	addOut(cmd, &s.out)
	return c.orders(cmd)
}

// order is what the flags say.
func (s *startFlags) order(name string, c *hsmClient) hsmops.DrillOrder {
	in := s.in
	in.Order = c.order()
	in.Member, in.Kind, in.Load = name, member.FaultKind(s.kind), drill.LoadMode(s.load)
	in.Delay, in.Before, in.During, in.After = member.Duration(s.delay), member.Duration(s.before), member.Duration(s.during), member.Duration(s.after)
	in.Limits.Detection, in.Limits.Switch = member.Duration(s.detection), member.Duration(s.switched)
	in.Limits.Recovery, in.Limits.LatencyFloor = member.Duration(s.recovery), member.Duration(s.noticed)
	if !s.detach {
		in.Lease = member.Duration(attendedLease)
	}
	return in
}

// startDrill starts and, unless detached, watches and reports.
func startDrill(cmd *cobra.Command, c *hsmClient, client *hsmops.Client, in hsmops.DrillOrder, detach bool, out []string) error {
	var p drill.Progress
	if err := bound(cmd.Context(), func(ctx context.Context) error { return client.Do(ctx, "/drills", in, &p) }); err != nil {
		return err
	}
	if detach {
		return c.say(cmd.OutOrStdout(), p, "drill %s has begun; watch it with: posp hsm drill status %s", p.ID, p.ID)
	}
	if err := watchDrill(cmd.Context(), client, p, newBar(cmd.ErrOrStderr())); err != nil {
		return err
	}
	return c.showReport(context.WithoutCancel(cmd.Context()), client, p.ID, out, cmd.OutOrStdout())
}

// withoutEnd gives a client for work that is longer than one call.
func (c *hsmClient) withoutEnd(work func(client *hsmops.Client) error) error {
	client, err := c.open()
	if err != nil {
		return err
	}
	defer client.Close()
	return explained(client.URL(), work(client))
}

func addOut(c *cobra.Command, out *[]string) {
	c.Flags().StringArrayVar(out, "out", nil, "write the report to this file, .html or .json; may be given twice")
}

func checkFiles(out []string) error {
	for _, path := range out {
		if ext := filepath.Ext(path); ext != ".html" && ext != ".json" {
			return &usageError{fmt.Sprintf("--out %s: the name must end in .html or .json", path)}
		}
	}
	return nil
}

// drillPath is the path of the drill that the arguments name, or of the newest.
func drillPath(ctx context.Context, client *hsmops.Client, args []string) (string, error) {
	if len(args) > 0 {
		return "/drills/" + url.PathEscape(args[0]), nil
	}
	var list hsmops.Page[drill.Progress]
	if err := client.Get(ctx, "/drills", nil, &list); err != nil {
		return "", err
	}
	if len(list.Items) == 0 {
		return "", &exitError{exitNotFound, errors.New("there is no drill yet: start one with posp hsm drill start")}
	}
	return "/drills/" + list.Items[0].ID, nil
}

// onDrill makes a command about one drill.
func onDrill(c *hsmClient, use, short string, do func(ctx context.Context, client *hsmops.Client, path string, w io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " [ID]", Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd.Context(), func(ctx context.Context, client *hsmops.Client) error {
				path, err := drillPath(ctx, client, args)
				if err != nil {
					return err
				}
				return do(ctx, client, path, cmd.OutOrStdout())
			})
		},
	}
}

func drillStatus(c *hsmClient) *cobra.Command {
	return onDrill(c, "status", "Where a drill is; without ID the newest", func(ctx context.Context, client *hsmops.Client, path string, w io.Writer) error {
		var p drill.Progress
		if err := client.Get(ctx, path, nil, &p); err != nil {
			return err
		}
		return c.say(w, p, "%s  %s", p.ID, drillLine(p))
	})
}

func drillStop(c *hsmClient) *cobra.Command {
	return c.orders(onDrill(c, "stop", "End a drill early and put the member back at once; without ID the newest",
		func(ctx context.Context, client *hsmops.Client, path string, w io.Writer) error {
			var p drill.Progress
			if err := client.Do(ctx, path+"/stop", c.order(), &p); err != nil {
				return err
			}
			return c.say(w, p, "%s  the fault has ended; %s", p.ID, drillLine(p))
		}))
}

func drillReport(c *hsmClient) *cobra.Command {
	var out []string
	cmd := onDrill(c, "report", "Show or save the report of a drill, without ID of the newest; the exit code is that of the verdict",
		func(ctx context.Context, client *hsmops.Client, path string, w io.Writer) error {
			if err := checkFiles(out); err != nil {
				return err
			}
			return c.showReport(ctx, client, strings.TrimPrefix(path, "/drills/"), out, w)
		})
	addOut(cmd, &out)
	return cmd
}

func drillList(c *hsmClient) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The kept drills, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list hsmops.Page[drill.Progress]
			if err := c.get(cmd.Context(), "/drills", nil, &list); err != nil {
				return err
			}
			if c.output == "json" {
				return indented(cmd.OutOrStdout(), list)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tSTARTED\tMEMBER\tFAULT\tDETECTED\tSWITCHED\tFAILED\tVERDICT\tBY")
			for _, p := range list.Items {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", p.ID, p.Started.Local().Format(time.DateTime), p.Member, p.Kind,
					msText(p.Times.DetectionMS), msText(p.Times.SwitchMS), p.Traffic.Failed+p.Own.Failed, p.Verdict, p.By)
			}
			return w.Flush()
		},
	}
}

// saveReport writes the report as the ending of the name says.
func saveReport(rep drill.Report, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640) //nolint:gosec // reports hold no secrets, the group may read them
	if err != nil {
		return fmt.Errorf("the report could not be written: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if filepath.Ext(path) == ".html" {
		return rep.WriteHTML(f)
	}
	return indented(f, rep)
}
