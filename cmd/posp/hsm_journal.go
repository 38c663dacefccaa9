package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/hsmclient/exchangelog"
)

const (
	// maxLast bounds the memory of --last: more than anybody reads.
	maxLast = 100_000
	// followFrom is what --follow shows of the past when no --from is given: enough to see that something is there.
	followFrom = 10 * time.Second
)

// journalFlags are what "posp hsm journal" takes.
type journalFlags struct {
	dir, output, from, to, serial string
	filter                        exchangelog.Filter
	follow                        bool
	last                          int
}

// journalCommand makes "posp hsm journal". It reads files and needs no running posp.
func journalCommand() *cobra.Command {
	var f journalFlags
	c := &cobra.Command{
		Use: "journal", Short: "Show the journal of every exchange with the HSMs", Args: cobra.NoArgs,
		Long: "Reads the files of the exchange journal: who was asked what, how long it took and how it ended. Works without a running posp, and on\n" +
			"copies of journals of several instances in one directory, which are merged by time. Damage is reported on standard error and skipped.",
		Example: "  posp hsm journal --dir /var/lib/keyward/hsm-journal --from 10m --failed\n" +
			"  posp hsm journal --dir /var/lib/keyward/hsm-journal --follow --member hsm1 --at-least 5ms\n" +
			"  posp hsm journal --dir /var/lib/keyward/hsm-journal --serial posp-1.mia4k2p39f2.1042 --output json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(time.Now()); err != nil {
				return err
			}
			return showJournal(cmd.Context(), f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.dir, "dir", "", "directory of the journal, as hsm.journal.dir of the configuration has it")
	flags.StringSliceVar(&f.filter.Members, "member", nil, "only these members, separated by commas")
	flags.StringSliceVar(&f.filter.Commands, "command", nil, "only these host commands, for example CA,M6")
	flags.StringSliceVar(&f.filter.For, "for", nil, "only what served these capabilities, for example translate_pin, or probe")
	flags.StringSliceVar(&f.filter.Results, "result", nil, "only these results, for example 15, no_answer")
	flags.BoolVar(&f.filter.Failed, "failed", false, "only what the device did not answer with success")
	flags.DurationVar(&f.filter.AtLeast, "at-least", 0, "only what took this long or longer, for example 5ms")
	flags.StringVar(&f.from, "from", "", "from this time: 10m (ago), 15:04, \"2006-01-02 15:04:05\" (local), or RFC 3339")
	flags.StringVar(&f.to, "to", "", "before this time, as --from")
	flags.StringVar(&f.serial, "serial", "", "only the exchange with this serial number")
	flags.BoolVar(&f.follow, "follow", false, "go on with what is written from now on, until Ctrl-C; of the past it shows the last 10 seconds, or what --from says")
	flags.IntVar(&f.last, "last", 0, "only the last so many that fit")
	flags.StringVar(&f.output, "output", "table", "table, or json: the lines of the journal as they are")
	_ = c.MarkFlagRequired("dir") // fails only for a flag that does not exist
	return c
}

// complete reads the flags that are more than words.
func (f *journalFlags) complete(now time.Time) (err error) {
	switch {
	case f.output != "table" && f.output != "json":
		return errors.New("--output must be table or json")
	case f.last < 0 || f.last > maxLast:
		return fmt.Errorf("--last must be 1 to %d", maxLast)
	case f.last > 0 && f.follow:
		return errors.New("--last and --follow do not go together: use --from with --follow")
	}
	if f.serial != "" {
		if f.filter.Serial, err = exchangelog.ParseSerial(f.serial); err != nil {
			return fmt.Errorf("--serial: %w", err)
		}
	}
	if f.filter.From, err = parseTime(f.from, now); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if f.filter.To, err = parseTime(f.to, now); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	if !f.filter.To.IsZero() && !f.filter.From.Before(f.filter.To) {
		return errors.New("--from must be before --to")
	}
	if f.follow && f.from == "" {
		f.filter.From = now.Add(-followFrom)
	}
	return nil
}

// parseTime reads a time as people write it; "" is none.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.Local), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 10m for ten minutes ago, 15:04, \"2006-01-02 15:04:05\", or RFC 3339", text)
}

// showJournal prints what fits. Lines are handed on as soon as nothing more is there at once, so that --follow shows them.
func showJournal(ctx context.Context, f journalFlags, out, problems io.Writer) error {
	w := bufio.NewWriter(out)
	show := printTable
	if f.output == "json" {
		show = printJSON
	} else if _, err := fmt.Fprintf(w, tableFormat, "TIME", "MEMBER", "CH", "CMD", "FOR", "SENT", "RCVD", "MS", "RESULT", "SERIAL"); err != nil {
		return err
	}
	var tail []exchangelog.Entry // of --last: a ring whose oldest is at next
	next, entries := 0, 0
	for e, err := range exchangelog.Read(ctx, f.dir, f.filter, f.follow) {
		if err != nil {
			return errors.Join(err, w.Flush())
		}
		if e.Damage != nil {
			if _, err := fmt.Fprintln(problems, damage(*e.Damage)); err != nil {
				return err
			}
			continue
		}
		entries++
		switch {
		case f.last == 0:
			if err := show(w, e); err != nil {
				return err
			}
		case len(tail) < f.last:
			tail = append(tail, e)
		default:
			tail[next] = e
			next = (next + 1) % f.last
		}
		if f.follow {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	for i := range tail {
		if err := show(w, tail[(next+i)%len(tail)]); err != nil {
			return err
		}
	}
	return w.Flush()
}

// tableFormat has fixed widths, because what follows a line is not known yet.
const tableFormat = "%-23s  %-12s  %2v  %-8s  %-16s  %5v  %5v  %9s  %-12s  %s\n"

func printTable(w io.Writer, e exchangelog.Entry) error {
	const layout = "2006-01-02 15:04:05.000"
	if g := e.Gap; g != nil {
		why := map[exchangelog.Reason]string{
			exchangelog.Overload: "they came faster than files could be written", exchangelog.Disk: "the files could not be written",
			exchangelog.Off: "the journal was switched off",
		}[g.Why]
		_, err := fmt.Fprintf(w, "%-23s  -- %d exchanges are missing since %s: %s\n", g.To.Local().Format(layout), g.Lost, g.From.Local().Format(layout), why)
		return err
	}
	x := e.Exchange
	_, err := fmt.Fprintf(w, tableFormat, x.At.Local().Format(layout), x.Member, x.Channel, x.Command, x.For, x.Sent, x.Received,
		fmt.Sprintf("%.3f", float64(x.Took)/float64(time.Millisecond)), x.Result, x.Serial)
	return err
}

// printJSON writes the line as it stands in the file.
func printJSON(w io.Writer, e exchangelog.Entry) error {
	var line json.Marshaler = e.Exchange
	if e.Gap != nil {
		line = e.Gap
	}
	text, err := line.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// damage is a sentence.
func damage(d exchangelog.Damage) string {
	if d.Torn && d.Lines == 1 {
		return fmt.Sprintf("%s: an unfinished line of %d bytes at offset %d is skipped: posp was killed, or the disk failed, while it was written", d.File, d.Bytes, d.Offset)
	}
	return fmt.Sprintf("%s: %d damaged lines of %d bytes at offset %d are skipped", d.File, d.Lines, d.Bytes, d.Offset)
}
