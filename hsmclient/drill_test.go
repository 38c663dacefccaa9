package hsmclient_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/drill"
	"github.com/keyward/keyward/hsmclient/member"
)

// TestDrills runs a failure drill of every kind on a cluster under load: no request fails, the member is taken out as it should be and is
// back in its place afterwards. Times are bounded generously: what is measured on a good machine is for the benchmarks.
func TestDrills(t *testing.T) {
	t.Parallel()
	second := member.Duration(time.Second)
	patient := member.Duration(patience)
	for kind, want := range map[member.FaultKind]struct {
		state   member.State // that the member must have reached
		retried bool         // requests are caught by the fault for sure; a refusal may come while none is under way on the member
	}{
		member.FaultRefuse:    {state: member.Down},
		member.FaultBlackHole: {state: member.Down, retried: true},
		member.FaultSlow:      {},
		member.FaultWrongLMK:  {state: member.Fenced},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			// A black hole is noticed after interval and time-out: short ones here, so that the drill is.
			probing := hsmclient.Probing{Every: 50 * time.Millisecond, Timeout: 500 * time.Millisecond, BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond, AdmitTimes: 2}
			u := underLoad(t, hsmclient.Config{Probing: probing}, "a", "b", "c")
			runner, err := drill.New(drill.Config{Cluster: u.c, Ask: func(ctx context.Context, _ string) error {
				_, err := u.c.CheckValue(ctx, u.load.key)
				if err == nil {
					u.load.done[doCheck].Add(1)
				}
				return err
			}})
			if err != nil {
				t.Fatal(err)
			}
			p, err := runner.Start(member.Act{By: "tester"}, drill.Request{
				Member: "b", Kind: kind, Delay: delayOf(kind), Before: second, During: 2 * second, After: second, Load: drill.LoadOn, Rate: 50,
				Limits: drill.Limits{Detection: patient, Switch: patient, Recovery: patient, LatencyFactor: 1000, LatencyFloor: patient},
			})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the drill is over", func() bool {
				p, err = runner.Progress(p.ID)
				return err != nil || p.Phase == drill.PhaseOver
			})
			rep, err := runner.Report(p.ID)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Verdict != drill.Passed {
				t.Fatalf("%s, %s: %+v", rep.Verdict, rep.Cause, rep.Checks)
			}
			reached := map[string]bool{}
			for _, e := range rep.Events {
				if e.Member == "b" && e.Phase == member.After {
					reached[e.To] = true
				}
			}
			if want.state != "" && !reached[string(want.state)] {
				t.Errorf("the member has never been %s: %v", want.state, reached)
			}
			during := rep.Phases[1]
			if retried := during.Traffic.Retried + during.Own.Retried; want.retried && retried == 0 {
				t.Error("no request was caught by the fault")
			}
			if during.Traffic.Served == 0 || during.Own.Served == 0 || rep.Phases[0].Traffic.P99MS == 0 {
				t.Errorf("nothing was measured: %+v", during)
			}
			u.is("b", member.Working)
			u.end()
		})
	}
}

func delayOf(kind member.FaultKind) member.Duration {
	if kind == member.FaultSlow {
		return member.Duration(20 * time.Millisecond)
	}
	return 0
}
