package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyward/keyward/hsmclient/member"
)

// colour is an ANSI sequence; "" for none.
type colour string

// The colours of states. Red is for what needs somebody, yellow for what may.
const (
	plainText colour = ""
	green     colour = "\x1b[32m"
	cyan      colour = "\x1b[36m"
	yellow    colour = "\x1b[33m"
	red       colour = "\x1b[1;31m"
	dim       colour = "\x1b[2m"
	noColour         = "\x1b[0m"
)

func stateColour(s member.State) colour {
	switch s {
	case member.Working:
		return green
	case member.Standby:
		return cyan
	case member.Draining, member.Suspect:
		return yellow
	case member.Down, member.Fenced:
		return red
	}
	return plainText
}

// cell is one cell of a table.
type cell struct {
	text  string
	hue   colour
	right bool // numbers stand right
}

func text(s string) cell { return cell{text: printable(s)} }
func number(format string, args ...any) cell {
	return cell{text: fmt.Sprintf(format, args...), right: true}
}
func hued(s string, hue colour) cell { return cell{text: printable(s), hue: hue} }

// printable takes away what would move the cursor or begin another line: reasons, serial numbers and versions were written by others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return '·'
	}, s)
}

func texts(list ...string) (row []cell) {
	for _, s := range list {
		row = append(row, text(s))
	}
	return row
}

// table prints rows below a heading, columns as wide as they must be, two blanks apart. Without colours it prints none.
func table(w io.Writer, coloured bool, heading []cell, rows [][]cell) {
	widths := make([]int, len(heading))
	for _, row := range append([][]cell{heading}, rows...) {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	line := func(row []cell, hue colour) {
		var b strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
			if c.hue == plainText {
				c.hue = hue
			}
			shown := c.text
			if coloured && c.hue != plainText && shown != "" {
				shown = string(c.hue) + shown + noColour
			}
			switch {
			case c.right:
				b.WriteString(pad + shown)
			case i == len(row)-1:
				b.WriteString(shown)
			default:
				b.WriteString(shown + pad)
			}
			if i < len(row)-1 {
				b.WriteString("  ")
			}
		}
		_, _ = fmt.Fprintln(w, strings.TrimRight(b.String(), " ")) // into memory, or the caller notices
	}
	line(heading, dim)
	for _, row := range rows {
		line(row, plainText)
	}
}

// pairs prints names and values below each other.
func pairs(w io.Writer, coloured bool, list [][2]cell) {
	width := 0
	for _, p := range list {
		width = max(width, utf8.RuneCountInString(p[0].text))
	}
	for _, p := range list {
		value := p[1].text
		if value == "" {
			continue
		}
		if coloured && p[1].hue != plainText {
			value = string(p[1].hue) + value + noColour
		}
		_, _ = fmt.Fprintf(w, "  %-*s  %s\n", width, p[0].text, value)
	}
}

// loadBar shows a load of 0 to 1 in ten steps. It is plain ASCII: a serial console at night shows it too.
func loadBar(load float64) string {
	const steps = 10
	full := min(max(int(load*steps+0.5), 0), steps)
	return fmt.Sprintf("%s%s %3.0f%%", strings.Repeat("#", full), strings.Repeat(".", steps-full), load*100)
}

// loadColour warns when a member or a domain is near its limit.
func loadColour(load float64) colour {
	switch {
	case load >= 0.95:
		return red
	case load >= 0.8:
		return yellow
	}
	return plainText
}

// ago is a length of time as people say it: 42s, 7m05s, 3h12m, 5d04h.
func ago(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	switch s := int(d.Seconds()); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s%86400/3600)
	}
}

func millis(v float64) string {
	switch {
	case v <= 0:
		return "-"
	case v < 10:
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

func dashed(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// isScreen says that a person looks at w, who can see colours and a picture that changes.
func isScreen(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// inColours says that w takes colours (no-color.org).
func inColours(w io.Writer) bool { return isScreen(w) && os.Getenv("NO_COLOR") == "" }
