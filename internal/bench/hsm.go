package bench

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	lmkDomain    = "bench"
)

// hsmRig is a simulated device group without anything else, and what is asked of it: a UnionPay MAC with a single-length key.
type hsmRig struct {
	dir     string // of the journals
	key     keys.Wrapped
	input   command.MACInput
	request string // the same for the bare client
	want    []byte // the right answer
	journal int    // names journals apart
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

// group is a cluster on devices of its own.
type group struct {
	rig     *hsmRig
	devices []*hsm.Device
	cluster *hsmclient.Cluster
	started
}

// start brings count devices and a cluster over them up, set as operators set them: with journal and metrics. Every member is admitted
// when it returns. A group that could not be started is stopped.
func (r *hsmRig) start(ctx context.Context, count int, faults hsm.Faults, onSwitch func(member.Switch)) (_ *group, err error) {
	g := &group{rig: r}
	defer func() {
		if err != nil {
			_ = g.stop() // the start is what failed
		}
	}()
	var specs []member.Spec
	for i := range count {
		d, stop, err := startDevice(ctx, faults)
		if err != nil {
			return nil, err
		}
		g.later(stop)
		g.devices = append(g.devices, d)
		specs = append(specs, member.Spec{Name: memberName(i), Addr: d.Addr("all").String(), Channels: hsmChannels, Rated: faults.CommandsPerSecond})
	}
	r.journal++
	journal, err := exchangelog.New(exchangelog.Config{Dir: r.dir, Group: lmkDomain, Instance: fmt.Sprintf("bench-%d", r.journal), KeepBytes: 256 << 20})
	if err != nil {
		return nil, err
	}
	if err := journal.Start(ctx); err != nil {
		return nil, err
	}
	g.later(bounded(journal.Stop))
	g.cluster, err = hsmclient.New(hsmclient.Config{
		Name: lmkDomain, Domains: []hsmclient.Domain{{Name: lmkDomain}}, Members: specs, Drivers: map[string]driver.Maker{"racal": racal.Make},
		Journal: journal, OnSwitch: onSwitch, Registerer: service.NewRegistry(),
	})
	if err != nil {
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
	if err == nil && !bytes.EqualFold(hex.AppendEncode(nil, mac), g.rig.want[4:]) {
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

// pairs are the results of two sides in the order of their turns.
type pairs struct{ a, b slices }

// turn runs both sides one after the other; who begins changes from round to round.
func (p *pairs) turn(ctx context.Context, round int, pace pace, a, b ask) error {
	sides := []struct {
		do   ask
		into *slices
	}{{a, &p.a}, {b, &p.b}}
	for k := range sides {
		side := sides[(round+k)%len(sides)]
		r := pace.run(ctx, side.do)
		if r.Failed != nil {
			return r.Failed
		}
		*side.into = append(*side.into, r)
	}
	return ctx.Err()
}

// compare gives the median over the pairs of what two results have to do with each other.
func (p pairs) compare(of func(a, b load.Result) float64) float64 {
	values := make([]float64, len(p.a))
	for i := range p.a {
		values[i] = of(p.a[i], p.b[i])
	}
	return median(values)
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

// measureOne compares a cluster of one member with the bare client on the same device: throughput, and latency at half of it.
func (r *hsmRig) measureOne(ctx context.Context, rounds int, say func(string, ...any)) (lines []Line, err error) {
	g, err := r.start(ctx, 1, hsm.Faults{}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	client, err := bare.DialHSM(ctx, g.devices[0].Addr("all").String(), hsmChannels)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	say("HSM cluster with one member and a bare client, %d rounds of slices of %s: closed loop, then open loop at half of its rate ...", rounds, hsmSlice)
	var speed, delay pairs
	for i := range rounds {
		p := pace{callers: hsmCallers, warmUp: hsmWarmUp, length: hsmSlice}
		if err := speed.turn(ctx, i, p, g.ask, r.askBare(client)); err != nil {
			return nil, err
		}
		// The rate is what both could do just now, so that half load is half load also when the machine has other work.
		p.rate = loadShare * min(speed.a[i].PerSecond(), speed.b[i].PerSecond())
		if p.rate == 0 {
			continue // the machine did something else all the time
		}
		if err := delay.turn(ctx, i, p, g.ask, r.askBare(client)); err != nil {
			return nil, err
		}
	}
	if len(delay.a) == 0 {
		return nil, errors.New("nothing was answered: the machine is too busy to measure")
	}
	return []Line{
		speed.line("hsm_cluster_one_per_s", againstBare),
		delay.added("hsm_cluster_added_p50_ms", 0.50),
		delay.added("hsm_cluster_added_p99_ms", 0.99),
	}, nil
}

// line compares the throughput of two sides.
func (p pairs) line(name, against string) Line {
	return Line{
		Name: name, Unit: "1/s", Value: round(p.a.perSecond()), Baseline: round(p.b.perSecond()), Against: against,
		Ratio: round(p.compare(func(a, b load.Result) float64 { return a.PerSecond() / max(1, b.PerSecond()) })),
	}
}

// added is the median of the differences of a percentile.
func (p pairs) added(name string, share float64) Line {
	ms := func(r load.Result) float64 { return float64(r.Percentile(share)) / float64(time.Millisecond) }
	l := Line{Name: name, Unit: "ms", Against: againstBare, Baseline: round(p.b.latency(share))}
	l.Value = round(p.compare(func(a, b load.Result) float64 { return ms(a) - ms(b) }))
	if l.Baseline > 0 {
		l.Ratio = round(l.Value / l.Baseline)
	}
	return l
}

// measureThree compares a cluster of three rate-limited members with a cluster of one.
func (r *hsmRig) measureThree(ctx context.Context, slice time.Duration, say func(string, ...any)) (line Line, err error) {
	var groups []*group
	for _, n := range []int{3, 1} {
		g, err := r.start(ctx, n, hsm.Faults{CommandsPerSecond: limitedRate}, nil)
		if err != nil {
			return line, err
		}
		defer func() { err = errors.Join(err, g.stop()) }()
		groups = append(groups, g)
	}
	say("Three HSMs of %d commands per second and one of them, %d pairs of slices of %s ...", limitedRate, limitedPairs, slice)
	// Enough callers to keep three busy.
	p := pace{callers: 3 * hsmCallers, warmUp: slice / 4, length: slice}
	var speed pairs
	for i := range limitedPairs {
		if err := speed.turn(ctx, i, p, groups[0].ask, groups[1].ask); err != nil {
			return line, err
		}
	}
	return speed.line("hsm_cluster_three_per_s", againstOne), nil
}
