package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/exchangelog"
)

// exchangeJournal starts a journal in a new directory.
func exchangeJournal(t *testing.T) (*exchangelog.Writer, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	w, err := exchangelog.New(exchangelog.Config{Dir: dir, Group: "online", Instance: "posp-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return w, dir
}

// asked is an exchange that began at a time.
func asked(serials *exchangelog.Serials, at time.Time, member, command, result string, took time.Duration) exchangelog.Exchange {
	return exchangelog.Exchange{
		Serial: serials.Next(), At: at, Group: "online", Member: member, Channel: 1, Command: command, For: "translate_pin", Sent: 96, Received: 27,
		Took: took, Result: result,
	}
}

// runJournal runs the command to its end.
func runJournal(t *testing.T, args ...string) (out, problems string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := journalCommand()
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetArgs(args)
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	err = c.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

func TestHSMJournal(t *testing.T) {
	t.Parallel()
	w, dir := exchangeJournal(t)
	serials := exchangelog.NewSerials("posp-1", time.Now())
	now := time.Now()
	for i, e := range []exchangelog.Exchange{
		asked(serials, now.Add(-time.Hour), "hsm1", "CA", "00", time.Millisecond),
		asked(serials, now.Add(-3*time.Minute), "hsm1", "CA", "00", 1500*time.Microsecond),
		asked(serials, now.Add(-2*time.Minute), "hsm2", "NC", exchangelog.NoAnswer, 700*time.Millisecond),
		asked(serials, now.Add(-time.Minute), "hsm2", "M6", "15", time.Millisecond),
	} {
		w.Record(e)
		if i == 1 {
			w.Switch(false)
			w.Record(e)
			w.Switch(true)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := strings.TrimSuffix(asked(serials, now, "", "", "", 0).Serial.String(), "5") + "4"
	for args, want := range map[string]string{ // the ends of the serial numbers that show, "gap" for the gap
		"": "1 2 gap 3 4", "--from 10m": "2 gap 3 4", "--to 150s": "1 2", "--from 150s --to 90s": "3", "--member hsm2,hsm3": "gap 3 4", "--command M6": "gap 4",
		"--failed": "gap 3 4", "--result 15": "gap 4", "--at-least 2ms": "gap 3", "--serial " + last: "gap 4", "--last 2": "3 4", "--last 99": "1 2 gap 3 4",
		"--for probe": "gap", "--from " + now.Add(-90*time.Second).Format(time.RFC3339): "gap 4",
	} {
		for _, output := range []string{"table", "json"} {
			out, problems, err := runJournal(t, append(strings.Fields(args), "--dir", dir, "--output", output)...)
			if err != nil || problems != "" {
				t.Errorf("%s: %v, %s", args, err, problems)
			}
			if got := serialsIn(t, out, output); got != want {
				t.Errorf("%s --output %s shows %q, want %q:\n%s", args, output, got, want, out)
			}
		}
	}
	out, _, err := runJournal(t, "--dir", dir, "--last", "1")
	if err != nil || !strings.HasPrefix(out, "TIME ") || !strings.Contains(out, "hsm2") || !strings.Contains(out, "M6") || !strings.Contains(out, "1.000") {
		t.Errorf("%v\n%s", err, out)
	}
}

// serialsIn gives the counters in what was printed.
func serialsIn(t *testing.T, out, output string) string {
	t.Helper()
	var list []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		serial := line[strings.LastIndexByte(line, ' ')+1:]
		if output == "json" && line != "" {
			var fields struct{ Serial, Gap string }
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			serial = fields.Serial
			if fields.Gap != "" {
				serial = "gap"
			}
		}
		n := serial[strings.LastIndexByte(serial, '.')+1:]
		if _, err := strconv.Atoi(n); err == nil {
			list = append(list, n)
		} else if serial == "gap" || strings.Contains(line, "1 exchanges are missing") {
			list = append(list, "gap")
		}
	}
	return strings.Join(list, " ")
}

func TestHSMJournalRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for args, want := range map[string]string{
		"":                                 "dir",
		"--dir " + dir + "/none":           "none",
		"--dir x --output xml":             "--output",
		"--dir x --last -1":                "--last",
		"--dir x --last 100001":            "--last",
		"--dir x --last 5 --follow":        "--from with --follow",
		"--dir x --from yesterday":         "--from",
		"--dir x --to 25:00":               "--to",
		"--dir x --from 10m --to 20m":      "before",
		"--dir x --serial 12":              "--serial",
		"--dir x --from 2026-02-30T00:00Z": "RFC 3339",
	} {
		if _, _, err := runJournal(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", args, err, want)
		}
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"90s": now.Add(-90 * time.Second), "08:30": now.Add(-3*time.Hour - 30*time.Minute), "08:30:15": now.Add(-3*time.Hour - 30*time.Minute + 15*time.Second),
		"2026-02-28": now.Add(-36 * time.Hour), "2026-03-01 11:00": now.Add(-time.Hour), "2026-03-01 11:00:01": now.Add(-time.Hour + time.Second), "": {},
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, want %v, %v", text, got, want, err)
		}
	}
}

// A torn line is reported on standard error; what is whole is shown.
func TestHSMJournalDamage(t *testing.T) {
	t.Parallel()
	w, dir := exchangeJournal(t)
	serials := exchangelog.NewSerials("posp-1", time.Now())
	w.Record(asked(serials, time.Now(), "hsm1", "CA", "00", time.Millisecond))
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "20260301T080000.000000Z_online@posp-2.jsonl"), []byte("garbage\nmore\n{\"at\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "20260301T080001.000000Z_online@posp-2.jsonl"), []byte("{\"at\""), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "20260301T080002.000000Z_online@posp-2.jsonl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, problems, err := runJournal(t, "--dir", dir)
	if err != nil || strings.Count(out, "\n") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Count(problems, "\n") != 2 || !strings.Contains(problems, "3 damaged lines of 19 bytes at offset 0") || !strings.Contains(problems, "unfinished line of 5 bytes") {
		t.Error(problems)
	}
}

// The command shows what is written while it runs, and ends quietly when it is told to.
func TestHSMJournalFollow(t *testing.T) {
	t.Parallel()
	w, dir := exchangeJournal(t)
	serials := exchangelog.NewSerials("posp-1", time.Now())
	w.Record(asked(serials, time.Now().Add(-time.Hour), "hsm1", "CA", "00", time.Millisecond)) // long ago: not shown
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, pipe := io.Pipe()
	c := journalCommand()
	c.SetArgs([]string{"--dir", dir, "--follow", "--member", "hsm1", "--output", "json"})
	c.SetOut(pipe)
	ended := make(chan error, 1)
	go func() { ended <- c.ExecuteContext(ctx) }()
	lines := bufio.NewScanner(r)
	for range 3 {
		w.Record(asked(serials, time.Now(), "hsm2", "CA", "00", time.Millisecond))
		want := asked(serials, time.Now(), "hsm1", "CA", "00", time.Millisecond)
		w.Record(want)
		if !lines.Scan() || !strings.Contains(lines.Text(), want.Serial.String()) {
			t.Fatalf("%v %q, want %s", lines.Err(), lines.Text(), want.Serial)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
