package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	sorting "slices"
	"text/tabwriter"
	"time"

	"github.com/keyward/keyward/sim/load"
)

// Line is one figure of the report.
type Line struct {
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
	Baseline float64 `json:"baseline"` // what it is compared with
	Ratio    float64 `json:"ratio"`    // value / baseline, 0 where the baseline is 0; of pairs of slices their median
	Against  string  `json:"against"`  // names what it is compared with
}

// What figures are compared with.
const (
	againstRelay = "bare relay"  // package bare, beside posp
	againstBare  = "bare client" // bare.HSM, beside a cluster of one member
	againstOne   = "one member"  // a cluster of one such member
	againstLimit = "limit"       // what was set as a goal
)

// Report is what a run measured.
type Report struct {
	At          time.Time
	Duration    time.Duration
	Terminals   int
	Connections int
	PostgreSQL  string
	Rate        float64 // of the open loop, per second
	Lines       []Line
}

// slices are the results of one side.
type slices []load.Result

// median is the middle of one figure over the slices.
func (s slices) median(of func(load.Result) float64) float64 {
	values := make([]float64, len(s))
	for i, r := range s {
		values[i] = of(r)
	}
	return median(values)
}

func median(values []float64) float64 {
	sorting.Sort(values)
	if len(values) == 0 {
		return 0
	}
	return values[len(values)/2]
}

func (s slices) perSecond() float64 { return s.median(load.Result.PerSecond) }

// latency is a percentile in milliseconds.
func (s slices) latency(p float64) float64 {
	return s.median(func(r load.Result) float64 { return float64(r.Percentile(p)) / float64(time.Millisecond) })
}

func (s slices) done() (n int) {
	for _, r := range s {
		n += r.Done
	}
	return n
}

// add appends a figure, rounded to what a measurement of seconds can tell.
func (r *Report) add(name, unit string, value, baseline float64) {
	l := Line{Name: name, Unit: unit, Value: round(value), Baseline: round(baseline), Against: againstRelay}
	if baseline != 0 {
		l.Ratio = round(value / baseline)
	}
	r.Lines = append(r.Lines, l)
}

func round(v float64) float64 {
	const thousandths = 1000
	return math.Round(v*thousandths) / thousandths
}

// fill makes the lines. counted is what the closed purchase slices of both sides together asked of HSMs and database.
func (r *Report) fill(signOns, purchases, paced sides, counted counts, rate float64) {
	r.Rate = rate
	r.add("signon_per_s", "1/s", signOns.posp.perSecond(), signOns.relay.perSecond())
	r.add("purchase_pin_per_s", "1/s", purchases.posp.perSecond(), purchases.relay.perSecond())
	for _, p := range []struct {
		name  string
		share float64
	}{{"p50", 0.50}, {"p90", 0.90}, {"p99", 0.99}} {
		posp, relay := paced.posp.latency(p.share), paced.relay.latency(p.share)
		r.add("purchase_pin_added_"+p.name+"_ms", "ms", posp-relay, relay)
	}
	r.add("purchase_pin_closed_p50_ms", "ms", purchases.posp.latency(0.50), purchases.relay.latency(0.50))
	r.add("purchase_pin_closed_p99_ms", "ms", purchases.posp.latency(0.99), purchases.relay.latency(0.99))
	// The warm-up is in the counts and not in the purchases counted: its share of time is taken out.
	share := float64(purchases.posp[0].Took) / float64(purchases.posp[0].Took+warmUp)
	both := float64(purchases.posp.done()+purchases.relay.done()) / share
	r.add("purchase_pin_hsm_commands", "1/purchase", float64(counted.hsm)/both, float64(counted.hsm)/both)
	r.add("purchase_pin_commits", "1/purchase", float64(counted.commits)*share/float64(max(1, purchases.posp.done())), 0)
	r.add("purchase_pin_wal_syncs", "1/purchase", float64(counted.syncs)*share/float64(max(1, purchases.posp.done())), 0)
}

// Print writes the report for people.
func (r Report) Print(w io.Writer) error {
	head := fmt.Sprintf("%s, %d cores, %s measured", r.At.Format(time.DateTime), runtime.NumCPU(), r.Duration)
	if r.PostgreSQL != "" {
		head += fmt.Sprintf("; PostgreSQL %s, %d terminals on %d connections, open loop at %.0f/s", r.PostgreSQL, r.Terminals, r.Connections, r.Rate)
	}
	if _, err := fmt.Fprintf(w, "\n%s\n\n", head); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(t, "figure\tunit\tvalue\tbaseline\tratio\tagainst") // errors of all lines come out of Flush
	for _, l := range r.Lines {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%.2f\t%s\n", l.Name, l.Unit, l.Value, l.Baseline, l.Ratio, l.Against)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\nadded: latency minus that of what it is compared with, at the same rate; the baseline is the latency of that itself.")
	return err
}

// Write saves the lines as JSON, making the directory.
func (r Report) Write(path string) error {
	b, err := json.MarshalIndent(r.Lines, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // A report is for everybody.
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil { //nolint:gosec // A report is for everybody.
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
