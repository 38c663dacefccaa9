// Package story is "keyward demo": it starts a fresh private system beside whatever else runs, tells what Keyward does step by step
// while doing it, and throws the system away. Each step checks what it tells, so that the story ends at the first thing that is
// not so.
package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/dev"
)

// Options say how the story is told.
type Options struct {
	Out    io.Writer
	BinDir string // where the programs are; empty: beside this one
	// Keep leaves the data directory behind for a look.
	Keep bool
}

// bankPatience is how long posp waits for the bank in the story: the 30 s of a real system would be a dull pause.
const bankPatience = 2 * time.Second

// Tell tells the story once. The error names the step that failed; then the directory with the logs is kept. kill ends everything at
// once when closed.
func Tell(ctx context.Context, opt Options, kill <-chan struct{}) (err error) {
	dir, err := os.MkdirTemp("", "keyward-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	// The database's user must be able to enter it.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // what is secret lies in closed directories below
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	offset, err := dev.FreeOffset(ctx)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	t := &teller{out: opt.Out}
	t.say("Keyward from an empty machine to a purchase and back. Everything runs in %s on ports of its own.", dir)
	begun := time.Now()
	data := dir + "/data"
	system, err := dev.Start(ctx, dev.Options{
		DataDir: data, Offset: offset, BinDir: opt.BinDir, Out: quiet{}, Fast: true, HostTimeout: bankPatience,
	}, kill)
	if err != nil {
		return fmt.Errorf("start the system: %w (its logs are in %s/logs)", err, data)
	}
	t.system = system
	t.say("PostgreSQL, the key service, posp, posv, issuer and the simulators are up after %s.", time.Since(begun).Round(100*time.Millisecond))
	told := t.tell(ctx)
	if err := errors.Join(told, system.Stop()); err != nil {
		return fmt.Errorf("%w (the logs are in %s/logs)", err, data)
	}
	t.say("\nEverything is stopped. That was all in %s.", time.Since(begun).Round(100*time.Millisecond))
	if opt.Keep {
		t.say("The data are in %s.", data)
		return nil
	}
	if _, err := dev.Reset(context.WithoutCancel(ctx), data); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// quiet drops what the start says: the story has its own words.
type quiet struct{}

func (quiet) Write(b []byte) (int, error) { return len(b), nil }

// teller tells.
type teller struct {
	out    io.Writer
	system *dev.System
	number int
}

func (t *teller) say(format string, args ...any) { _, _ = fmt.Fprintf(t.out, format+"\n", args...) }

// step is one part of the story.
type step struct {
	title string
	do    func(*teller, context.Context) error
}

// tell goes through the steps.
func (t *teller) tell(ctx context.Context) error {
	for _, s := range steps {
		t.number++
		t.say("\n%d. %s", t.number, s.title)
		if err := s.do(t, ctx); err != nil {
			return fmt.Errorf("step %d (%s): %w", t.number, strings.TrimSuffix(s.title, "."), err)
		}
	}
	return nil
}

// detail tells a detail of a step.
func (t *teller) detail(format string, args ...any) { t.say("   "+format, args...) }
