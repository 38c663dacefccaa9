package bench

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/bench/bare"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/load"
)

const (
	// hsmChannels is the number of connections to each device, for the cluster and for the bare client: the cluster's default.
	hsmChannels = 6
	// hsmCallers is how many requests are under way in the closed loop: as many as the terminals of the other measurements.
	hsmCallers = 64
	// hsmSlice is short, and there are many rounds, one for each roundTime of Options.Duration: what else the machine does then falls on both
	// sides of most pairs alike, and the median passes over the rest. It still holds a thousand requests, enough for a percentile.
	hsmSlice  = 25 * time.Millisecond
	hsmWarmUp = hsmSlice / 8
	roundTime = 250 * time.Millisecond
	// limitedRate is the speed of the rate-limited members: a licence of the payShield 10K (facts/hsm.md §7).
	limitedRate = 2500
	// limitedPairs is how often one and three limited members take turns, limitedShare the part of Options.Duration that a slice takes:
	// a limited member answers few.
	limitedPairs = 3
	limitedShare = 50
	// journalBytes bounds the files of a journal, which no licensed device could fill as fast.
	journalBytes = 256 << 20
	lmkDomain    = "bench"
)

// hsmRig is a simulated device group without anything else, and what is asked of it: a UnionPay MAC with a single-length key.
type hsmRig struct {
	dir      string // of the journals
	key      keys.Wrapped
	input    command.MACInput
	request  string // the same for the bare client
	want     []byte // the right answer
	mac      []byte // of it
	journals int    // names them apart
}

// newHSMRig makes the key and learns the right answer from the bare client.
func newHSMRig(ctx context.Context, dir string) (r *hsmRig, err error) {
	d, stop, err := startDevice(ctx, hsm.Faults{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = stop() }() // a device that served one request
	r = &hsmRig{dir: dir}
	text, err := d.EncryptUnderLMK("003", "Z", []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF})
	if err != nil {
		return nil, err
	}
	const block = "8669012722F217C6"
	r.key = keys.Wrapped{Usage: keys.MACKey, Algorithm: keys.DES, Domain: lmkDomain, Cryptogram: text}
	r.input = command.MACInput{Key: r.key, Algorithm: command.MACAlg1, Data: []byte(block)}
	r.request = "M6" + "00" + "111" + "003" + text + fmt.Sprintf("%04X", len(block)) + block
	client, err := bare.DialHSM(ctx, d.Addr("all").String(), 1)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if r.want, err = client.Exchange(r.request); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(r.want, []byte("M700")) {
		return nil, fmt.Errorf("the simulated HSM answered %q to M6", r.want)
	}
	if r.mac, err = hex.DecodeString(string(r.want[4:])); err != nil {
		return nil, fmt.Errorf("the simulated HSM answered %q to M6: %w", r.want, err)
	}
	return r, nil
}

// startDevice starts a simulated HSM with the public test LMK.
func startDevice(ctx context.Context, faults hsm.Faults) (*hsm.Device, func() error, error) {
	d, err := hsm.New(hsm.Config{Ports: []hsm.Port{{Name: "all", Addr: "127.0.0.1:0", Allow: hsm.AllCommands()}}, Faults: faults})
	if err != nil {
		return nil, nil, err
	}
	if err := d.Start(ctx); err != nil {
		return nil, nil, err
	}
	return d, bounded(d.Stop), nil
}

// group is a cluster on devices of its own. The first three fields say how it is to be.
type group struct {
	faults   hsm.Faults
	journal  bool
	onSwitch func(member.Switch)

	rig     *hsmRig
	devices []*hsm.Device
	cluster *hsmclient.Cluster
	started
}

// start brings count devices and a cluster over them up, with metrics, as operators run it. Every member is admitted when it returns. A
// group that could not be started is stopped.
func (r *hsmRig) start(ctx context.Context, as group, count int) (_ *group, err error) {
	g := &as
	g.rig = r
	defer func() {
		if err != nil {
			_ = g.stop() // the start is what failed
		}
	}()
	cfg := hsmclient.Config{
		Name: lmkDomain, Domains: []hsmclient.Domain{{Name: lmkDomain}}, Drivers: map[string]driver.Maker{"racal": racal.Make},
		OnSwitch: g.onSwitch, Registerer: service.NewRegistry(),
	}
	for i := range count {
		d, stop, err := startDevice(ctx, g.faults)
		if err != nil {
			return nil, err
		}
		g.later(stop)
		g.devices = append(g.devices, d)
		cfg.Members = append(cfg.Members, member.Spec{Name: memberName(i), Addr: d.Addr("all").String(), Channels: hsmChannels, Rated: g.faults.CommandsPerSecond})
	}
	if g.journal {
		r.journals++
		w, err := exchangelog.New(exchangelog.Config{
			Dir: r.dir, Group: lmkDomain, Instance: fmt.Sprintf("bench-%d", r.journals), KeepBytes: journalBytes,
		})
		if err != nil {
			return nil, err
		}
		if err := w.Start(ctx); err != nil {
			return nil, err
		}
		g.later(bounded(w.Stop))
		cfg.Journal = w
	}
	if g.cluster, err = hsmclient.New(cfg); err != nil {
		return nil, err
	}
	if err := g.cluster.Start(ctx); err != nil {
		return nil, err
	}
	g.later(bounded(g.cluster.Stop))
	return g, g.wait(ctx)
}

func memberName(i int) string { return fmt.Sprintf("hsm%d", i+1) }

// wait waits until every member has all its channels.
func (g *group) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		open := 0
		for _, m := range g.cluster.Members() {
			open += m.Load.ChannelsOpen
		}
		if open == len(g.devices)*hsmChannels {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d channels are open after %s: %w", open, len(g.devices)*hsmChannels, stopTime, context.Cause(ctx))
		}
	}
}

// ask asks the cluster.
func (g *group) ask(ctx context.Context) error {
	mac, err := g.cluster.MAC(ctx, g.rig.input)
	if err == nil && !bytes.Equal(mac, g.rig.mac) {
		err = fmt.Errorf("the cluster gave a wrong MAC: %X", mac)
	}
	return err
}

// askBare asks the bare client.
func (r *hsmRig) askBare(client *bare.HSM) ask {
	return func(context.Context) error {
		answer, err := client.Exchange(r.request)
		if err == nil && !bytes.Equal(answer, r.want) {
			err = fmt.Errorf("the bare client gave a wrong answer: %q", answer)
		}
		return err
	}
}

// runHSM measures the cluster client (package hsmclient) against the simplest client that could be written.
func runHSM(ctx context.Context, opt Options, report *Report, say func(string, ...any)) (err error) {
	dir, err := os.MkdirTemp("", "keyward-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	rig, err := newHSMRig(ctx, filepath.Join(dir, "journal"))
	if err != nil {
		return fmt.Errorf("simulated HSM: %w", err)
	}
	lines, err := rig.measureOne(ctx, int(opt.Duration/roundTime)|1, say)
	if err != nil {
		return fmt.Errorf("measure the HSM cluster with one member: %w", err)
	}
	three, err := rig.measureThree(ctx, opt.Duration/limitedShare, say)
	if err != nil {
		return fmt.Errorf("measure the HSM cluster with three members: %w", err)
	}
	failover, err := rig.measureFailover(ctx, say)
	if err != nil {
		return fmt.Errorf("measure the failover of the HSM cluster: %w", err)
	}
	report.Lines = append(append(append(report.Lines, lines...), three), failover...)
	return nil
}

// measureOne compares a cluster of one member with the bare client: throughput without and with the journal, which the bare client does
// not keep either, and latency at half load as operators run it, with the journal.
func (r *hsmRig) measureOne(ctx context.Context, rounds int, say func(string, ...any)) (lines []Line, err error) {
	g, err := r.start(ctx, group{journal: true}, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	plain, err := r.start(ctx, group{}, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plain.stop()) }()
	client, err := bare.DialHSM(ctx, g.devices[0].Addr("all").String(), hsmChannels)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	say("HSM cluster with one member and a bare client, %d rounds of slices of %s: closed loop, then open loop at half load ...", rounds, hsmSlice)
	without, with, yardstick := &side{do: plain.ask}, &side{do: g.ask}, &side{do: r.askBare(client)}
	paced, pacedYardstick := &side{do: g.ask}, &side{do: r.askBare(client)}
	for i := range rounds {
		p := pace{callers: hsmCallers, warmUp: hsmWarmUp, length: hsmSlice}
		if err := p.turn(ctx, i, without, with, yardstick); err != nil {
			return nil, err
		}
		if p.rate = halfLoad(with, yardstick, paced, pacedYardstick); p.rate == 0 {
			continue // the machine did something else all the time
		}
		if err := p.turn(ctx, i, paced, pacedYardstick); err != nil {
			return nil, err
		}
	}
	if len(paced.results) == 0 {
		return nil, errors.New("nothing was answered: the machine is too busy to measure")
	}
	say("... half load was %.0f requests per second.", paced.results.perSecond())
	return []Line{
		throughput("hsm_cluster_one_per_s", againstBare, without, yardstick),
		throughput("hsm_cluster_journal_per_s", againstBare, with, yardstick),
		added("hsm_cluster_added_p50_ms", 0.50, paced, pacedYardstick),
		added("hsm_cluster_added_p99_ms", 0.99, paced, pacedYardstick),
	}, nil
}

// halfLoad is half of what both sides could do in the closed loop just now, or, where that is less, the rate at which this process uses
// half of the processors: requests that do not come in bunches cost more of them. Taken in every round, it stays half when the machine has
// other work.
func halfLoad(a, b, pacedA, pacedB *side) float64 {
	rate := min(a.last().PerSecond(), b.last().PerSecond())
	if cost := max(a.cost, b.cost, pacedA.cost, pacedB.cost); cost > 0 {
		rate = min(rate, float64(runtime.GOMAXPROCS(0))/cost.Seconds())
	}
	return loadShare * rate
}

// throughput compares that of two sides.
func throughput(name, against string, a, b *side) Line {
	return Line{
		Name: name, Unit: "1/s", Value: round(a.results.perSecond()), Baseline: round(b.results.perSecond()), Against: against,
		Ratio: round(a.compare(b, func(a, b load.Result) float64 { return a.PerSecond() / max(1, b.PerSecond()) })),
	}
}

// added is the median of the differences of a percentile.
func added(name string, share float64, a, b *side) Line {
	ms := func(r load.Result) float64 { return milliseconds(r.Percentile(share)) }
	l := Line{Name: name, Unit: "ms", Against: againstBare, Baseline: round(b.results.latency(share))}
	l.Value = round(a.compare(b, func(a, b load.Result) float64 { return ms(a) - ms(b) }))
	if l.Baseline > 0 {
		l.Ratio = round(l.Value / l.Baseline)
	}
	return l
}

// measureThree compares a cluster of three rate-limited members with a cluster of one.
func (r *hsmRig) measureThree(ctx context.Context, slice time.Duration, say func(string, ...any)) (line Line, err error) {
	var sides []*side
	for _, n := range []int{3, 1} {
		g, err := r.start(ctx, group{faults: hsm.Faults{CommandsPerSecond: limitedRate}}, n)
		if err != nil {
			return line, err
		}
		defer func() { err = errors.Join(err, g.stop()) }()
		sides = append(sides, &side{do: g.ask})
	}
	say("Three HSMs of %d commands per second and one of them, %d pairs of slices of %s ...", limitedRate, limitedPairs, slice)
	// Enough callers to keep three busy.
	p := pace{callers: 3 * hsmCallers, warmUp: slice / 4, length: slice}
	for i := range limitedPairs {
		if err := p.turn(ctx, i, sides...); err != nil {
			return line, err
		}
	}
	return throughput("hsm_cluster_three_per_s", againstOne, sides[0], sides[1]), nil
}
