package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keyward/keyward/hsmclient/drill"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
)

const (
	// watchEvery is how often a watched drill is asked for: often enough for a moving bar and far below the lease.
	watchEvery = 300 * time.Millisecond
	// askBound is how long one question may take; the service is taken for lost when none was answered for lostAfter.
	askBound  = 3 * time.Second
	lostAfter = 2 * attendedLease
)

// watchDrill shows a drill until it is over. When ctx ends (Ctrl-C) the drill is ended early; then the end is still waited for.
func watchDrill(ctx context.Context, client *hsmops.Client, p drill.Progress, show *bar) error {
	asking := context.WithoutCancel(ctx)
	interrupted := ctx.Done()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	heard := time.Now()
	for p.Phase != drill.PhaseOver {
		show.draw(p)
		var err error
		select {
		case <-interrupted:
			interrupted = nil
			show.note("interrupted: the fault ends, the member comes back")
			err = bound(asking, func(ctx context.Context) error {
				return client.Do(ctx, "/drills/"+p.ID+"/stop", hsmops.Order{Reason: "interrupted"}, &p)
			})
		case <-tick.C:
			err = bound(asking, func(ctx context.Context) error { return client.Get(ctx, "/drills/"+p.ID, nil, &p) })
		}
		var refused *httpapi.Refusal
		switch {
		case err == nil:
			heard = time.Now()
		case errors.As(err, &refused):
			return err
		case time.Since(heard) > lostAfter:
			return fmt.Errorf("the service does not answer any more; drill %s ends by itself within %s, look with posp hsm show %s: %w", p.ID, attendedLease, p.Member, err)
		}
	}
	show.draw(p)
	show.end()
	return nil
}

func bound(ctx context.Context, ask func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	return ask(ctx)
}

// bar shows progress: a line that is drawn anew on a terminal, a line for each phase elsewhere.
type bar struct {
	w        io.Writer
	terminal bool
	phase    string
	width    int // of the line that stands there
}

func newBar(w io.Writer) *bar {
	b := &bar{w: w}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		b.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return b
}

const barWidth = 24

func (b *bar) draw(p drill.Progress) {
	if !b.terminal {
		if p.Phase != b.phase {
			b.phase = p.Phase
			fmt.Fprintln(b.w, drillLine(p))
		}
		return
	}
	done := min(max(int(p.Part*barWidth), 0), barWidth)
	b.line(fmt.Sprintf("[%s%s] %3.0f %%  %s", strings.Repeat("#", done), strings.Repeat("·", barWidth-done), p.Part*100, drillLine(p)))
}

// line draws over what stands there.
func (b *bar) line(text string) {
	width := len([]rune(text))
	fmt.Fprintf(b.w, "\r%s%s", text, strings.Repeat(" ", max(b.width-width, 0)))
	b.width = width
}

func (b *bar) note(text string) {
	if b.terminal {
		b.line(text)
		b.end()
		return
	}
	fmt.Fprintln(b.w, text)
}

func (b *bar) end() {
	if b.terminal {
		fmt.Fprintln(b.w)
		b.width = 0
	}
}

// drillLine is a drill in one line.
func drillLine(p drill.Progress) string {
	phase := map[string]string{
		"before": "measuring before the fault", "during": "fault in place: " + string(p.Kind), "return": "waiting until it is back", "after": "measuring after", drill.PhaseOver: "over",
	}[p.Phase]
	if phase == "" {
		phase = p.Phase
	}
	text := fmt.Sprintf("%s: %s", p.Member, phase)
	if p.State != "" {
		text += ", " + string(p.State)
	}
	if p.Times.DetectionMS != nil {
		text += ", detected after " + msText(p.Times.DetectionMS)
	}
	text += fmt.Sprintf("; traffic %s", countsText(p.Traffic))
	if p.Own != (drill.Counts{}) {
		text += fmt.Sprintf(", own %s", countsText(p.Own))
	}
	if p.Phase == drill.PhaseOver {
		text += "; " + string(p.Verdict)
		if p.Cause != "" {
			text += ": " + p.Cause
		}
	}
	return text
}

func countsText(c drill.Counts) string {
	text := fmt.Sprintf("%d served, %d retried, %d failed", c.Served, c.Retried, c.Failed)
	if c.InDoubt > 0 {
		text += fmt.Sprintf(", %d in doubt", c.InDoubt)
	}
	return text
}

// msText writes milliseconds for people.
func msText(v *float64) string {
	switch {
	case v == nil:
		return "-"
	case *v < 1000:
		return fmt.Sprintf("%.3g ms", *v)
	default:
		return fmt.Sprintf("%.2f s", *v/1000)
	}
}

// showReport prints and saves a report, and ends with its verdict.
func (c *hsmClient) showReport(ctx context.Context, client *hsmops.Client, id string, out []string, w io.Writer) error {
	var rep drill.Report
	if err := client.Get(ctx, "/drills/"+id+"/report.json", nil, &rep); err != nil {
		return err
	}
	for _, path := range out {
		if err := saveReport(rep, path); err != nil {
			return err
		}
	}
	if c.output == "json" {
		if err := indented(w, rep); err != nil {
			return err
		}
	} else if err := printReport(w, rep, out); err != nil {
		return err
	}
	return verdictOf(rep.ID, rep.Verdict, rep.Cause)
}

// printReport is the report in short.
func printReport(w io.Writer, rep drill.Report, out []string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "drill %s: %s of %s (domain %s)\n\n", rep.ID, rep.Request.Kind, rep.Request.Member, rep.Domain)
	fmt.Fprintln(t, "CHECK\tMEASURED\tLIMIT\tRESULT\tNOTE")
	for _, c := range rep.Checks {
		measured, limit := checkText(c.Unit, c.Measured), checkText(c.Unit, &c.Limit)
		if c.Unit == "state" {
			limit = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.Name, measured, limit, c.Result, c.Note)
	}
	fmt.Fprintln(t, "\nPHASE\tREQUESTS\tSERVED\tRETRIED\tFAILED\tIN DOUBT\tP50\tP95\tP99\tLONGEST GAP")
	for _, p := range rep.Phases {
		row := func(name string, m drill.Measured) {
			latency := "-\t-\t-"
			if m.Served+m.Failed > 0 {
				latency = msText(&m.P50MS) + "\t" + msText(&m.P95MS) + "\t" + msText(&m.P99MS)
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", p.Name, name, m.Served, m.Retried, m.Failed, m.InDoubt, latency, msText(&p.GapMS))
		}
		row("traffic", p.Traffic)
		if rep.OwnLoad {
			row("own", p.Own)
		}
	}
	fmt.Fprintf(t, "\nverdict: %s\n", rep.Verdict)
	for _, path := range out {
		fmt.Fprintf(t, "report: %s\n", path)
	}
	return t.Flush()
}

func checkText(unit string, v *float64) string {
	switch {
	case v == nil:
		return "-"
	case unit == "ms":
		return msText(v)
	case unit == "times":
		return fmt.Sprintf("%.2f x", *v)
	}
	return fmt.Sprintf("%g", *v)
}
