package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/rewrap"
)

// rewrapDone says what an order has begun, and with watch shows the work until the job rests.
func (c *hsmClient) rewrapDone(cmd *cobra.Command, j rewrap.Job, watch bool) error {
	out := cmd.OutOrStdout()
	if !watch {
		return c.say(out, j, "job %d, %s to %s: %s; see posp hsm rewrap status %d --watch", j.ID, j.From, j.To, j.State, j.ID)
	}
	for last := ""; ; {
		var st rewrap.Status
		if err := c.rewrapCall(cmd.Context(), http.MethodGet, fmt.Sprintf("/%d", j.ID), nil, &st); err != nil {
			return err
		}
		rests := rewrapRests(st.State)
		switch line := rewrapLine(st); {
		case c.output == "json":
			if rests {
				return indented(out, st)
			}
		case isScreen(out):
			_, _ = fmt.Fprintf(out, "\r\x1b[K%s", line) // the last line tells when it fails
		case line != last:
			last = line
			_, _ = fmt.Fprintln(out, line)
		}
		if rests {
			if isScreen(out) {
				_, _ = fmt.Fprintln(out)
			}
			return rewrapResult(st)
		}
		select {
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-time.After(watchRewrap):
		}
	}
}

// rewrapRests says that the job waits for people, or for nothing any more.
func rewrapRests(s rewrap.State) bool {
	switch s {
	case rewrap.Paused, rewrap.Copied, rewrap.Switched, rewrap.Retired, rewrap.Failed, rewrap.Cancelled:
		return true
	default:
		return false
	}
}

// rewrapResult is nil when the work that was watched came to a good end.
func rewrapResult(st rewrap.Status) error {
	switch {
	case st.State == rewrap.Failed:
		return &exitError{exitFailure, fmt.Errorf("job %d failed: %s", st.ID, st.Trouble)}
	case st.State == rewrap.Copied && st.Progress.Differences > 0:
		return &exitError{exitRewrapDiffers, fmt.Errorf("job %d: %d keys differ; see posp hsm rewrap report %d --differences", st.ID, st.Progress.Differences, st.ID)}
	}
	return nil
}

// rewrapLine is a job on one line with a bar. While keys change over it counts these, else the copies.
func rewrapLine(st rewrap.Status) string {
	p := st.Progress
	part, of := p.Done, p.Total
	switch st.State {
	case rewrap.Switching, rewrap.Switched, rewrap.Returning:
		part = p.Switched
	default:
	}
	line := fmt.Sprintf("%-10s %s  %d of %d", st.State, progressBar(part, of), part, of)
	if st.State == rewrap.Copying {
		line += fmt.Sprintf("  %.1f/s", p.Rate)
		if p.ETA != "" {
			line += "  " + p.ETA + " left"
		}
	}
	if p.Differences > 0 {
		line += fmt.Sprintf("  %d differ", p.Differences)
	}
	if st.Trouble != "" {
		line += "  ! " + st.Trouble
	}
	return line
}

// progressBar shows part of a whole in thirty steps; it is full only when nothing is missing.
func progressBar(part, of int) string {
	const steps = 30
	full := steps
	if of > 0 {
		full = part * steps / of
	}
	percent := 100
	if of > 0 {
		percent = part * 100 / of
	}
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat(".", steps-full), percent)
}

func rewrapColour(s rewrap.State) colour {
	switch s {
	case rewrap.Failed:
		return red
	case rewrap.Paused, rewrap.Switching, rewrap.Returning, rewrap.Retiring, rewrap.Cancelling:
		return yellow
	case rewrap.Copied, rewrap.Switched:
		return cyan
	case rewrap.Retired:
		return green
	default:
		return plainText
	}
}

// showJobs prints the list of jobs.
func (c *hsmClient) showJobs(out io.Writer, list []rewrap.Job) error {
	if c.output == "json" {
		return indented(out, append([]rewrap.Job{}, list...))
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no job yet; see posp hsm rewrap start --help")
		return err
	}
	var rows [][]cell
	for _, j := range list {
		rows = append(rows, []cell{
			number("%d", j.ID), text(j.From), text(j.To), text(string(j.Method)), hued(string(j.State), rewrapColour(j.State)), text(j.StartedBy),
			text(when(j.CreatedAt)), text(j.Trouble),
		})
	}
	table(out, inColours(out), texts("JOB", "FROM", "TO", "METHOD", "STATE", "STARTED BY", "STARTED", "TROUBLE"), rows)
	return nil
}

// drawRewrap draws one job.
func (c *hsmClient) drawRewrap(id int64) func(ctx context.Context, w io.Writer, coloured bool) error {
	return func(ctx context.Context, w io.Writer, coloured bool) error {
		var st rewrap.Status
		if err := c.rewrapCall(ctx, http.MethodGet, fmt.Sprintf("/%d", id), nil, &st); err != nil {
			return err
		}
		if c.output == "json" {
			return indented(w, st)
		}
		p := st.Progress
		_, _ = fmt.Fprintf(w, "job %d: %s to %s\n%s\n\n", st.ID, st.From, st.To, rewrapLine(st)) // into memory, or the table notices
		method := string(st.Method)
		if st.ZMK != "" {
			method += " " + st.ZMK
		}
		ordered := ""
		if st.Share > 0 || len(st.Names) > 0 {
			ordered = fmt.Sprintf("%d%% of the cards, %d further keys", st.Share, len(st.Names))
			if st.Share == 100 {
				ordered = "every key"
			}
		}
		pairs(w, coloured, [][2]cell{
			{text("state"), hued(string(st.State), rewrapColour(st.State))}, {text("method"), text(method)},
			{text("rate"), text(fmt.Sprintf("at most %d keys/s", st.Rate))},
			{text("copied"), text(fmt.Sprintf("%d of %d, %d left, %d differ", p.Done, p.Total, p.Left, p.Differences))},
			{text("switched"), text(fmt.Sprintf("%d of %d", p.Switched, p.Total))}, {text("ordered"), text(ordered)},
			{text("made in " + st.To), text(fmt.Sprintf("%d", p.Native))},
			{text("working keys in " + st.From), text(fmt.Sprintf("%d sets of terminals", p.WorkKeySets))},
			{text("started"), text(when(st.CreatedAt) + " by " + st.StartedBy)}, {text("last order"), text(st.OrderedBy)},
			{text("trouble"), hued(st.Trouble, red)},
		})
		for _, waits := range []struct {
			what string
			list []rewrap.Blocker
		}{{"switch", st.SwitchWaits}, {"retire", st.RetireWaits}} {
			for _, b := range waits.list {
				_, _ = fmt.Fprintf(w, "\n%s waits: %s\n  %d: %s\n", waits.what, b.What, b.Count, strings.Join(b.Examples, ", "))
			}
		}
		return nil
	}
}

// showProof prints a report.
func (c *hsmClient) showProof(out io.Writer, r proofReport) error {
	if c.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var rows [][]cell
	for _, l := range r.Lines {
		verdict := hued("agrees", green)
		if !l.Good {
			verdict = hued("DIFFERS", red)
		}
		rows = append(rows, []cell{
			text(l.Name), text(l.Usage.String()), text(l.Algorithm.String()), number("%d", l.Version), text(dashed(string(l.Stored))),
			text(dashed(string(l.Before))), text(dashed(string(l.After))), verdict, text(when(l.At)), text(l.Reason),
		})
	}
	table(out, inColours(out), texts("KEY", "USAGE", "ALGORITHM", "VERSION", "STORED", "BEFORE", "AFTER", "PROOF", "AT", "REASON"), rows)
	_, err := fmt.Fprintf(out, "\njob %d, %s to %s, %s: %d keys agree, %d differ\n", r.Job.ID, r.Job.From, r.Job.To, r.Job.State, r.Good, r.Differ)
	return err
}
