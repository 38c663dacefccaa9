package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmlist"
	"github.com/keyward/keyward/internal/hsmops"
)

func engineCommand(c *hsmClient) *cobra.Command {
	var watch watched
	cmd := &cobra.Command{
		Use: "engine", Short: "The engine: running, monitoring, LMK domains, forecast", Args: cobra.NoArgs,
		Example: "  posp hsm engine\n  posp hsm engine stop --reason \"move to the new rack\"\n  posp hsm engine start",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return watch.show(cmd.Context(), cmd.OutOrStdout(), func(ctx context.Context, w io.Writer, coloured bool) error {
				var o hsmops.Overview
				if err := c.get(ctx, "", nil, &o); err != nil {
					return err
				}
				if c.output == "json" {
					return indented(w, o.Engine)
				}
				drawEngine(w, coloured, o)
				return nil
			})
		},
	}
	watch.flags(cmd)
	one := func(use, short string) *cobra.Command {
		return c.orders(&cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				var e member.Engine
				if err := c.do(cmd.Context(), "/engine/"+use, c.order(), &e); err != nil {
					return err
				}
				return c.say(cmd.OutOrStdout(), e, "The engine is %s.", map[bool]string{true: "running", false: "stopped"}[e.Running])
			},
		})
	}
	cmd.AddCommand(one("start", "Take requests again (old: StartCluster)"), one("stop", "Take no more requests; those under way end (old: StopCluster)"))
	return cmd
}

func drawEngine(w io.Writer, coloured bool, o hsmops.Overview) {
	e := o.Engine
	_, _ = fmt.Fprintf(w, "%s on %s: %s\n", e.Name, e.Instance, engineLine(o))
	_, _ = fmt.Fprintf(w, "since %s (%s), serial number of the last exchange %d, priorities 1 to %d\n", when(e.Since), ago(o.Now.Sub(e.Since)), e.Serial, e.MaxPrio)
	for _, line := range troubles(o) {
		_, _ = fmt.Fprintln(w, line)
	}
	_, _ = fmt.Fprintln(w)
	var rows [][]cell
	for _, d := range e.Domains {
		rows = append(rows, []cell{
			text(d.Domain), text(dashed(string(d.LMKCheck))), number("%d", d.States[member.Working]), number("%d", d.States[member.Standby]),
			number("%d", d.States[member.Draining]+d.States[member.Suspect]+d.States[member.Down]+d.States[member.Fenced]),
			hued(loadBar(d.Utilisation), loadColour(d.Utilisation)), number("%d/%d", d.InFlight, d.Places), number("%d", d.Waiting), number("%.0f", d.PerSecond), text(d.Forecast.Text),
		})
	}
	table(w, coloured, []cell{
		text("LMK DOMAIN"), text("LMK CHECK"), number("WORKING"), number("STANDBY"), number("OUT"), text("LOAD"), number("IN FLIGHT"), number("WAITING"),
		number("PER S"), text("FORECAST"),
	}, rows)
}

// switchCommand makes a pair of commands that switch something on and off.
func switchCommands(c *hsmClient, path, what string, words [2]string, shorts [2]string) []*cobra.Command {
	var out []*cobra.Command
	for i, word := range words {
		on := i == 0
		out = append(out, c.orders(&cobra.Command{
			Use: word, Short: shorts[i], Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				var e member.Engine
				if err := c.do(cmd.Context(), path, hsmops.SwitchOrder{Order: c.order(), On: on}, &e); err != nil {
					return err
				}
				return c.say(cmd.OutOrStdout(), e, "%s is %s.", what, onOff(on))
			},
		}))
	}
	return out
}

func monitoringCommand(c *hsmClient) *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "monitoring", Short: "Start or stop the heartbeats; the cluster runs without them", Example: "  posp hsm monitoring stop\n  posp hsm monitoring start",
	})
	cmd.AddCommand(switchCommands(c, "/monitoring", "Monitoring", [2]string{"start", "stop"},
		[2]string{"Send heartbeats", "Send no heartbeats: a device that fails is noticed by its errors only"})...)
	return cmd
}

// switchableJournal is the reader of the journal, with the switch of the running service below it.
func switchableJournal(c *hsmClient) *cobra.Command {
	cmd := journalCommand()
	cmd.AddCommand(switchCommands(c, "/journal", "The journal", [2]string{"on", "off"},
		[2]string{"Write the journal of exchanges", "Write no journal; the gap is noted in it"})...)
	return cmd
}

func queuesCommand(c *hsmClient) *cobra.Command {
	var watch watched
	cmd := &cobra.Command{
		Use: "queues", Short: "Requests that wait, and requests under way", Args: cobra.NoArgs, Example: "  posp hsm queues --watch\n  posp hsm queues clear requests --force",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return watch.show(cmd.Context(), cmd.OutOrStdout(), func(ctx context.Context, w io.Writer, coloured bool) error {
				var list hsmops.Page[member.Queues]
				if err := c.get(ctx, "/queues", nil, &list); err != nil {
					return err
				}
				if c.output == "json" {
					return indented(w, list)
				}
				drawQueues(w, coloured, list.Items)
				return nil
			})
		},
	}
	watch.flags(cmd)
	var domain string
	clearing := c.orders(&cobra.Command{
		Use: "clear requests|responses", Short: "Empty a queue: its requests fail at once (old: ClearQ)", Args: cobra.ExactArgs(1),
		Long: "requests are those that wait for a place; responses are those under way, whose answers are then dropped.\n" +
			"Refused while the queue is in use, unless --force is given: its callers get an error.",
		ValidArgs: []string{string(member.Requests), string(member.Responses)},
		RunE: func(cmd *cobra.Command, args []string) error {
			var got hsmops.Cleared
			if err := c.do(cmd.Context(), "/queues/clear", hsmops.ClearOrder{Order: c.order(), Domain: domain, Kind: member.QueueKind(args[0])}, &got); err != nil {
				return err
			}
			return c.say(cmd.OutOrStdout(), got, "%d %s are cleared.", got.Cleared, args[0])
		},
	})
	clearing.Flags().StringVar(&domain, "domain", "", "LMK domain; may be left out where there is one only")
	cmd.AddCommand(clearing)
	return cmd
}

func drawQueues(w io.Writer, coloured bool, list []member.Queues) {
	for i, q := range list {
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		_, _ = fmt.Fprintf(w, "LMK domain %s: room for %d that wait, %d were refused or put out because it was full\n", q.Domain, q.Limit, q.Shed)
		var rows [][]cell
		for _, r := range q.Requests {
			rows = append(rows, []cell{text("waiting"), text(r.Class), number("%d", r.Waiting), {text: millis(r.OldestMS), right: true}})
		}
		for _, r := range q.Sent {
			rows = append(rows, []cell{text("under way"), text(r.Member), number("%d", r.InFlight), {text: millis(r.OldestMS), right: true}})
		}
		table(w, coloured, []cell{text("QUEUE"), text("CLASS OR MEMBER"), number("REQUESTS"), number("OLDEST")}, rows)
	}
}

func saveCommand(c *hsmClient) *cobra.Command {
	var base int64
	cmd := &cobra.Command{
		Use: "save", Short: "Make the present members permanent, for all instances", Args: cobra.NoArgs,
		Long: "Saves members, roles, priorities, weights, rated speeds and probe commands as they are now on this instance as the next version of the list.\n" +
			"All instances of the group take it over at once, and begin with it at their next start. Refused when somebody has saved since the\n" +
			"version that this instance has; the text names him.",
		Example: "  posp hsm save --reason \"hsm4 added\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := hsmops.SaveOrder{Order: c.order()}
			if cmd.Flags().Changed("base") {
				in.Base = &base
			}
			var v hsmlist.Version
			if err := c.do(cmd.Context(), "/save", in, &v); err != nil {
				return err
			}
			return c.say(cmd.OutOrStdout(), v, "Version %d of the %s list is saved: %d members.", v.Version, v.Group, len(v.Members))
		},
	}
	cmd.Flags().Int64Var(&base, "base", 0, "the version that you have seen; left out: the one in force there")
	return c.orders(cmd)
}

func savedCommand(c *hsmClient) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "saved", Short: "Saved versions of the member list: who, when, why", Args: cobra.NoArgs, Example: "  posp hsm saved\n  posp hsm saved --limit 1 --output json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list hsmops.Page[hsmlist.Version]
			if err := c.get(cmd.Context(), "/list/versions", url.Values{"limit": {strconv.Itoa(limit)}}, &list); err != nil {
				return err
			}
			if c.output == "json" {
				return indented(cmd.OutOrStdout(), list)
			}
			var rows [][]cell
			for _, v := range list.Items {
				names := ""
				for _, s := range v.Members {
					names += " " + s.Name
				}
				rows = append(rows, []cell{number("%d", v.Version), text(when(v.SavedAt)), text(v.SavedBy), text(v.Instance), text(names[min(1, len(names)):]), text(v.Reason)})
			}
			table(cmd.OutOrStdout(), inColours(cmd.OutOrStdout()), append([]cell{number("VERSION")}, texts("SAVED", "BY", "ON", "MEMBERS", "REASON")...), rows)
			return nil
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many, the newest")
	return cmd
}

// followEvery is how often new switches are asked for.
const followEvery = 500 * time.Millisecond

func historyCommand(c *hsmClient) *cobra.Command {
	var limit int
	var name, instance string
	var all, follow bool
	cmd := &cobra.Command{
		Use: "history", Short: "Switches: what changed, before and after, by whom and why", Args: cobra.NoArgs,
		Long: "Shows the history of this instance from its memory, oldest first. --all shows that of all instances of the group from the database.\n" +
			"A switch stands twice: announced before, reported after.",
		Example: "  posp hsm history --follow\n  posp hsm history --all --member hsm2 --limit 50",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			path := "/history"
			if all {
				path = "/history/all"
			}
			for k, v := range map[string]string{"member": name, "instance": instance} {
				if v != "" {
					q.Set(k, v)
				}
			}
			return c.tail(cmd.Context(), cmd.OutOrStdout(), path, q, follow)
		},
	}
	f := cmd.Flags()
	f.IntVar(&limit, "limit", 40, "how many of the past, 1 to 500")
	f.StringVar(&name, "member", "", "of this member only")
	f.StringVar(&instance, "instance", "", "with --all: of this instance only")
	f.BoolVar(&all, "all", false, "of all instances, from the database")
	f.BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on, until Ctrl-C")
	_ = cmd.RegisterFlagCompletionFunc("member", func(cmd *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
		return c.names(cmd, nil, begin)
	}) // the flag exists
	return cmd
}

// tail prints the newest entries, oldest first, and with follow what comes after.
func (c *hsmClient) tail(ctx context.Context, w io.Writer, path string, q url.Values, follow bool) error {
	var last int64
	for {
		var list hsmops.Page[hsmlist.Entry]
		err := c.get(ctx, path, q, &list)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if last == 0 { // without a place to go on from, the newest come first
			slices.Reverse(list.Items)
		}
		for _, e := range list.Items {
			if err := c.printSwitch(w, e); err != nil {
				return err
			}
			if last = e.ID; last == 0 { // of one instance
				last = int64(e.Seq)
			}
		}
		if !follow {
			return nil
		}
		if last > 0 {
			q.Set("after", strconv.FormatInt(last, 10))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// printSwitch writes one line, so that following needs no table.
func (c *hsmClient) printSwitch(w io.Writer, e hsmlist.Entry) error {
	if c.output == "json" {
		return jsonLine(w, e)
	}
	where := e.Member
	if where == "" {
		where = e.Domain
	}
	if e.Instance != "" {
		where = e.Instance + " " + where
	}
	move := e.What
	switch {
	case e.From != "" && e.To != "":
		move += " " + e.From + " -> " + e.To
	case e.To != "":
		move += " " + e.To
	case e.From != "":
		move += " " + e.From
	}
	line := fmt.Sprintf("%s  %-6s  %-14s  %-30s  by %s", e.At.Local().Format("2006-01-02 15:04:05.000"), e.Phase, dashed(where), move, e.By)
	if e.Reason != "" {
		line += ": " + e.Reason
	}
	_, err := fmt.Fprintln(w, printable(line))
	return err
}
