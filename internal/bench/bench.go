// Package bench measures what Keyward adds: sign-ons and purchases through a real posp, and through a bare relay (package bare)
// that does the same HSM and bank round trips and nothing else, against the same simulators in the same minutes; and host commands
// through the clustered HSM client and through the simplest client that pipelines.
//
// Absolute numbers say much about the machine and little about Keyward; the ratio to what is bare says it better. Slices of both
// alternate (posp, relay, posp, relay …) and the median slice counts, so that a machine that slows down for a while slows both.
// docs/performance.md explains the figures.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keyward/keyward/sim/load"
)

// Options of a run.
type Options struct {
	// Duration is the time of all measured slices of posp together; those of the HSM cluster take about as long, and starting and stopping
	// come on top. At least minDuration.
	Duration time.Duration
	// Terminals is how many there are, up to 9999; in the closed loop each has one message under way.
	Terminals int
	// Connections is how many connections they share; 0: one each.
	Connections int
	// Only leaves one part of the measurements out, when it is not empty: PartPOSP, PartHSM or PartIdle is then all that is measured.
	Only string
	// BinDir is where posp is; empty: beside this program.
	BinDir string
	// CPUProfile, when not empty, runs posp inside this process and writes a CPU profile of the purchase slices there. Its samples
	// carry the label part: posp, relay, load or simulators. The figures of such a run are not comparable.
	CPUProfile string
}

// The parts of a run.
const (
	PartPOSP = "posp" // sign-ons and purchases
	PartHSM  = "hsm"  // the clustered HSM client
)

const (
	// rounds is how often posp and relay take turns in each measurement; odd, so that the median is a measured slice.
	rounds = 3
	// measurements is how many kinds of slices there are: sign-on, purchase, purchase at half load.
	measurements = 3
	// warmUp is the part of a slice that does not count.
	warmUp = 200 * time.Millisecond
	// minDuration leaves each slice long enough for a percentile.
	minDuration = measurements * rounds * 2 * 500 * time.Millisecond
	// maxTerminals comes from the numbering 1000NNNN.
	maxTerminals = 9999
	// loadShare is how much of posp's own throughput the latency is measured at.
	loadShare = 0.5
)

func (o *Options) complete() error {
	if o.Connections == 0 {
		o.Connections = o.Terminals
	}
	var errs []error
	if o.Duration < minDuration {
		errs = append(errs, fmt.Errorf("--duration %s: must be at least %s", o.Duration, minDuration))
	}
	if o.Terminals < 1 || o.Terminals > maxTerminals {
		errs = append(errs, fmt.Errorf("--terminals %d: must be 1 to %d", o.Terminals, maxTerminals))
	}
	if o.Connections < 1 || o.Connections > o.Terminals {
		errs = append(errs, fmt.Errorf("--connections %d: must be 1 to the number of terminals, %d", o.Connections, o.Terminals))
	}
	if o.Only != "" && o.Only != PartPOSP && o.Only != PartHSM && o.Only != PartIdle {
		errs = append(errs, fmt.Errorf("--only %q: must be %s, %s or %s", o.Only, PartPOSP, PartHSM, PartIdle))
	}
	return errors.Join(errs...)
}

// Run measures, and writes what it does to progress. A single wrong or missing answer makes the run an error: a fast wrong answer is
// worth nothing.
func Run(ctx context.Context, opt Options, progress io.Writer) (Report, error) {
	if err := opt.complete(); err != nil {
		return Report{}, err
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(progress, format+"\n", args...) }
	report := Report{At: time.Now().UTC(), Duration: opt.Duration}
	if opt.Only == "" || opt.Only == PartPOSP {
		if err := runPOSP(ctx, opt, &report, say); err != nil {
			return Report{}, err
		}
	}
	if opt.Only == "" || opt.Only == PartHSM {
		if err := runHSM(ctx, opt, &report, say); err != nil {
			return Report{}, err
		}
	}
	if opt.Only == "" && opt.CPUProfile == "" || opt.Only == PartIdle {
		if err := runIdle(ctx, opt, &report, say); err != nil {
			return Report{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return Report{}, fmt.Errorf("interrupted: %w", err)
	}
	return report, nil
}

// runPOSP brings a private system up, measures, and takes it down.
func runPOSP(ctx context.Context, opt Options, report *Report, say func(string, ...any)) (err error) {
	say("Starting PostgreSQL, simulators, posp and the bare relay with %d terminals on %d connections ...", opt.Terminals, opt.Connections)
	s, err := startSystem(ctx, opt)
	defer func() { err = errors.Join(err, s.stop()) }()
	if err != nil {
		return err
	}
	slice := opt.Duration / (measurements * rounds * 2)
	report.Terminals, report.Connections, report.PostgreSQL = opt.Terminals, opt.Connections, s.database.Version()

	say("Sign-ons, closed loop, %d slices of %s ...", 2*rounds, slice)
	signOns, err := s.alternate(func(f *load.Fleet) load.Result { return f.Closed(ctx, load.SignOn, warmUp, slice) })
	if err != nil {
		return fmt.Errorf("measure sign-ons: %w", err)
	}
	say("Purchases with PIN, closed loop ...")
	if err := s.startProfile(opt.CPUProfile); err != nil {
		return err
	}
	before, err := s.count(ctx)
	if err != nil {
		return err
	}
	purchases, err := s.alternate(func(f *load.Fleet) load.Result { return f.Closed(ctx, load.Purchase, warmUp, slice) })
	if err != nil {
		return fmt.Errorf("measure purchases: %w", err)
	}
	after, err := s.count(ctx)
	if err != nil {
		return err
	}
	s.stopProfile()
	rate := loadShare * purchases.posp.perSecond()
	say("Purchases with PIN, open loop at %.0f per second ...", rate)
	paced, err := s.alternate(func(f *load.Fleet) load.Result { return f.Open(ctx, load.Purchase, rate, warmUp, slice) })
	if err != nil {
		return fmt.Errorf("measure latency: %w", err)
	}
	report.fill(signOns, purchases, paced, after.minus(before), rate)
	return nil
}

// sides are the slices of posp and of the relay.
type sides struct{ posp, relay slices }

// alternate runs a slice on posp, then on the relay, and so on.
func (s *system) alternate(run func(*load.Fleet) load.Result) (out sides, err error) {
	for range rounds {
		for _, side := range []struct {
			fleet *load.Fleet
			into  *slices
			name  string
		}{{s.pospFleet, &out.posp, "posp"}, {s.relayFleet, &out.relay, "bare relay"}} {
			r := run(side.fleet)
			if r.Failed != nil {
				return out, fmt.Errorf("%s: %w", side.name, r.Failed)
			}
			*side.into = append(*side.into, r)
		}
	}
	return out, nil
}
