package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmops"
)

// forecastAlarm is the time to saturation below which the list calls for somebody.
const forecastAlarm = time.Hour

func listHSMs(c *hsmClient) *cobra.Command {
	var watch watched
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "All members: state, load, LMK check value, firmware, and why", Args: cobra.NoArgs,
		Long: "Shows what is wrong first, then each LMK domain with its members. LOAD is the rate over what the device is licensed for where that is\n" +
			"known (--rated), else requests under way over places. SINCE is the time in this state.",
		Example: "  posp hsm list\n  posp hsm list --watch\n  posp hsm list --output json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return watch.show(cmd.Context(), cmd.OutOrStdout(), func(ctx context.Context, w io.Writer, coloured bool) error {
				var o hsmops.Overview
				if err := c.get(ctx, "", nil, &o); err != nil {
					return err
				}
				if c.output == "json" {
					return indented(w, o)
				}
				drawList(w, coloured, o)
				return nil
			})
		},
	}
	watch.flags(cmd)
	return cmd
}

// drawList is the picture of a whole group.
func drawList(w io.Writer, coloured bool, o hsmops.Overview) {
	e := o.Engine
	_, _ = fmt.Fprintf(w, "%s on %s, %s: %s\n", e.Name, e.Instance, o.Now.Local().Format("2006-01-02 15:04:05"), engineLine(o))
	for _, line := range troubles(o) {
		if coloured {
			line = string(red) + line + noColour
		}
		_, _ = fmt.Fprintln(w, line)
	}
	for _, d := range e.Domains {
		_, _ = fmt.Fprintf(w, "\nLMK domain %s: %s\n", d.Domain, domainLine(d))
		var rows [][]cell
		for _, s := range o.Members {
			if s.Spec.Domain == d.Domain {
				rows = append(rows, memberRow(s, o.Now))
			}
		}
		if len(rows) == 0 {
			_, _ = fmt.Fprintln(w, "  no members; add one with: posp hsm add NAME ADDRESS --domain "+d.Domain)
			continue
		}
		table(w, coloured, []cell{
			text("NAME"), text("STATE"), number("PRIO"), text("LOAD"), number("IN FLIGHT"), number("PER S"), number("P99"),
			text("LMK CHECK"), text("FIRMWARE"), text("SERIAL"), number("SINCE"), text("REASON"),
		}, rows)
	}
}

func memberRow(s member.Status, now time.Time) []cell {
	prio := fmt.Sprint(s.Spec.Priority)
	if s.Spec.Role == member.Standby {
		prio += "s"
	}
	return []cell{
		text(s.Spec.Name), hued(string(s.State), stateColour(s.State)), {text: prio, right: true}, hued(loadBar(s.Load.Utilisation), loadColour(s.Load.Utilisation)),
		number("%d/%d", s.Load.InFlight, s.Load.Places), number("%.0f", s.Load.PerSecond), {text: millis(s.Load.P99MS), right: true},
		text(dashed(string(s.Device.LMKCheck))), text(dashed(s.Device.Firmware)), text(dashed(s.Device.Serial)),
		{text: ago(now.Sub(s.Since)), right: true}, text(whyOf(s, now)),
	}
}

// whyOf is what an operator has to know of a member in a few words.
func whyOf(s member.Status, now time.Time) string {
	var parts []string
	if s.Fault != nil {
		parts = append(parts, fmt.Sprintf("DRILL %s until %s", s.Fault.Kind, s.Fault.Until.Local().Format("15:04:05")))
	}
	if s.Reason != "" {
		parts = append(parts, s.Reason)
	}
	if s.Warning != "" {
		parts = append(parts, s.Warning)
	}
	if !s.Probing.NextAt.IsZero() && s.Probing.NextAt.After(now) && (s.State == member.Down || s.State == member.Suspect || s.State == member.Fenced) {
		parts = append(parts, "next probe in "+ago(s.Probing.NextAt.Sub(now)))
	}
	return strings.Join(parts, "; ")
}

func engineLine(o hsmops.Overview) string {
	e := o.Engine
	parts := []string{"running", "monitoring " + onOff(e.Monitoring), "journal " + onOff(e.Journal), fmt.Sprintf("%d of at most %d members", e.Members, e.MaxMembers)}
	if !e.Running {
		parts[0] = "STOPPED"
	}
	if l := o.List; l != nil {
		list := fmt.Sprintf("list version %d (%s)", l.Version, l.Origin)
		if l.Version == 0 {
			list = "list of the configuration, never saved"
		}
		if l.Unsaved {
			list += ", changes not saved"
		}
		parts = append(parts, list)
	}
	return strings.Join(parts, ", ")
}

// troubles are sentences about what needs somebody, with what to do.
func troubles(o hsmops.Overview) []string {
	var out []string
	e := o.Engine
	if !e.Running {
		out = append(out, "! The engine is stopped: no request is served. Start it with: posp hsm engine start")
	}
	if e.Running && !e.Monitoring {
		out = append(out, "! Monitoring is off: a device that fails is noticed by its errors only. Start it with: posp hsm monitoring start")
	}
	for _, d := range e.Domains {
		healthy := d.States[member.Working] + d.States[member.Standby]
		switch {
		case len(d.States) > 0 && healthy == 0:
			out = append(out, fmt.Sprintf("! LMK domain %s has no member that works: all its requests fail. Bring one back; it is found by itself, or at once with: posp hsm probe NAME", d.Domain))
		case d.StandbyEngaged:
			out = append(out, fmt.Sprintf("! LMK domain %s: standby members are engaged, because the working ones are gone or full. Back from a failure: posp hsm state NAME working", d.Domain))
		}
		if soon(d.Forecast) {
			out = append(out, fmt.Sprintf("! LMK domain %s: %s", d.Domain, d.Forecast.Text))
		}
	}
	if l := o.List; l != nil {
		if l.Problem != "" {
			out = append(out, "! Member list: "+l.Problem)
		}
		if l.DatabaseAway {
			out = append(out, "! The database is away: changes work here, but cannot be made permanent.")
		}
	}
	return out
}

// soon says that a forecast is somebody's business tonight. What ten minutes tell about a time further away is no alarm.
func soon(f member.Forecast) bool { return f.SaturatedIn > 0 && f.SaturatedIn.Std() <= forecastAlarm }

func domainLine(d member.DomainStatus) string {
	var states []string
	for _, s := range []member.State{member.Working, member.Standby, member.Draining, member.Suspect, member.Down, member.Fenced} {
		if n := d.States[s]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, s))
		}
	}
	line := fmt.Sprintf("load %s, %d of %d places in use, %d waiting, %.0f per second", loadBar(d.Utilisation), d.InFlight, d.Places, d.Waiting, d.PerSecond)
	if len(states) > 0 {
		line = strings.Join(states, ", ") + "; " + line
	}
	if !soon(d.Forecast) && d.Forecast.Text != "" && d.Places > 0 {
		line += "; " + d.Forecast.Text
	}
	return line
}

func showHSM(c *hsmClient) *cobra.Command {
	var watch watched
	cmd := &cobra.Command{
		Use: "show NAME", Short: "One member: state, authorisation data, load, traffic, probing, settings", Args: cobra.ExactArgs(1), ValidArgsFunction: c.names,
		Example: "  posp hsm show hsm1\n  posp hsm show hsm1 --watch",
		RunE: func(cmd *cobra.Command, args []string) error {
			return watch.show(cmd.Context(), cmd.OutOrStdout(), func(ctx context.Context, w io.Writer, coloured bool) error {
				var s member.Status
				if err := c.get(ctx, "/members/"+url.PathEscape(args[0]), nil, &s); err != nil {
					return err
				}
				if c.output == "json" {
					return indented(w, s)
				}
				drawMember(w, coloured, s, time.Now())
				return nil
			})
		},
	}
	watch.flags(cmd)
	return cmd
}

func drawMember(w io.Writer, coloured bool, s member.Status, now time.Time) {
	l, t, p := s.Load, s.Traffic, s.Probing
	block := func(title string, list ...[2]cell) {
		_, _ = fmt.Fprintf(w, "%s\n", title)
		pairs(w, coloured, list)
	}
	row := func(name, format string, args ...any) [2]cell {
		return [2]cell{text(name), text(fmt.Sprintf(format, args...))}
	}
	block(s.Spec.Name,
		[2]cell{text("state"), hued(fmt.Sprintf("%s, since %s (%s)", s.State, when(s.Since), ago(now.Sub(s.Since))), stateColour(s.State))},
		[2]cell{text("reason"), text(whyOf(s, now))},
		row("role", "%s, priority %d, weight %d", dashed(string(s.Spec.Role)), s.Spec.Priority, max(s.Spec.Weight, 1)),
		row("address", "%s (%s, domain %s, %s)", s.Spec.Addr, dashed(s.Spec.Driver), s.Spec.Domain, line(s.Spec)))
	block("authorisation",
		row("serial number", "%s", dashed(s.Device.Serial)), row("firmware", "%s", dashed(s.Device.Firmware)),
		row("LMK check value", "%s", dashed(string(s.Device.LMKCheck))), row("as of", "%s", when(s.Device.SeenAt)))
	rated := "unknown; set it with: posp hsm rated " + s.Spec.Name + " COMMANDS-PER-SECOND"
	if s.Spec.Rated > 0 {
		rated = fmt.Sprintf("%d commands per second", s.Spec.Rated)
	}
	block("load",
		[2]cell{text("utilisation"), hued(loadBar(l.Utilisation), loadColour(l.Utilisation))}, row("rated", "%s", rated),
		row("commands", "%.1f per second; %d under way, room for %d", l.PerSecond, l.InFlight, l.Places),
		row("time of a command", "%s in the middle, %s at the 99th percentile", millis(l.P50MS), millis(l.P99MS)),
		row("channels", "%d of %d open, %s", l.ChannelsOpen, s.Spec.Channels, map[bool]string{true: "pipelined", false: "one request at a time"}[l.Pipelined]))
	block("traffic", append([][2]cell{
		row("commands", "%d, %d bytes sent, %d bytes read", t.Commands, t.BytesSent, t.BytesRead), row("channels poisoned", "%d", t.Poisoned),
	}, append(counts("", t.ByCommand), counts("failed: ", t.Failed)...)...)...)
	block("probing",
		row("last", "%s, %s", when(p.LastAt), millis(p.LastMS)), row("missed in a row", "%d", p.Misses), row("last failure", "%s", p.LastErr),
		row("command", "%s", map[bool]string{true: "the driver's default", false: s.Spec.Probe}[s.Spec.Probe == ""]))
	if len(s.Spec.Settings) > 0 {
		var list [][2]cell
		for _, k := range slices.Sorted(maps.Keys(s.Spec.Settings)) {
			list = append(list, row(k, "%s", s.Spec.Settings[k]))
		}
		block("settings", list...)
	}
}

func counts(prefix string, m map[string]uint64) (list [][2]cell) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, [2]cell{text("  " + prefix + k), text(fmt.Sprint(m[k]))})
	}
	return list
}

// line says how the line to a member is protected.
func line(s member.Spec) string {
	switch {
	case s.TLS != nil:
		return "TLS"
	case s.Private:
		return "plain, declared private"
	}
	return "plain"
}
