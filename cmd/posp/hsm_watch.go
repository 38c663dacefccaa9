package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// watchPeriod is how often a watched picture is made anew: as often as a person reads it.
	watchPeriod = time.Second
	minWatch    = 200 * time.Millisecond
)

// watched is what --watch and --every say.
type watched struct {
	on    bool
	every time.Duration
}

func (f *watched) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.on, "watch", "w", false, "show it again and again until Ctrl-C")
	cmd.Flags().DurationVar(&f.every, "every", watchPeriod, "how often, with --watch")
}

// show draws once, or again and again. draw writes a whole picture. While watching, an answer that does not come leaves the last picture
// and says so below it: at night a screen that goes blank is worse than one that is old and says so.
func (f *watched) show(ctx context.Context, out io.Writer, draw func(ctx context.Context, w io.Writer, coloured bool) error) error {
	coloured := inColours(out)
	if !f.on {
		return draw(ctx, out, coloured)
	}
	if f.every < minWatch {
		return &usageError{fmt.Sprintf("--every must be %s or more", minWatch)}
	}
	screen := isScreen(out)
	if screen {
		// The other screen, without the cursor and with long lines cut; the old one comes back at the end.
		if _, err := io.WriteString(out, "\x1b[?1049h\x1b[?25l\x1b[?7l"); err != nil {
			return err
		}
		defer func() { _, _ = io.WriteString(out, "\x1b[?7h\x1b[?25h\x1b[?1049l") }()
	}
	var last bytes.Buffer
	var lastAt time.Time
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		var fresh bytes.Buffer
		err := draw(ctx, &fresh, coloured)
		var coded *exitError
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how watching ends
		case err == nil:
			last, lastAt = fresh, time.Now()
		case lastAt.IsZero() || !errors.As(err, &coded) || coded.code != exitNoAnswer:
			return err
		default:
			fresh.Reset()
			fresh.Write(last.Bytes())
			fmt.Fprintf(&fresh, "\n! No answer; this is how it was %s ago. %v\n", ago(time.Since(lastAt)), err)
		}
		if err := paint(out, fresh.String(), screen); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// paint writes a picture over the one before, line by line, so that nothing flickers; where there is no screen it follows the one before.
func paint(out io.Writer, picture string, screen bool) error {
	if screen {
		picture = "\x1b[H" + strings.ReplaceAll(picture, "\n", "\x1b[K\n") + "\x1b[J"
	} else {
		picture += "\n"
	}
	_, err := io.WriteString(out, picture)
	return err
}
