package hsmclient_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// One place and one caller waiting: the third is told at once, the second gets the place when it is free.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	reg := prometheus.NewRegistry()
	m := spec("a", d)
	m.Depth = 1
	c := start(t, hsmclient.Config{Members: []member.Spec{m}, MaxWaiting: 1, Timeout: patience, Registerer: reg})
	setFaults(t, d, hsm.Faults{Hold: []string{"N0"}})
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- randoms(c) }()
	waitHeld(t, d)
	go func() { second <- randoms(c) }()
	eventually(t, "the second waits", func() bool { return value(t, reg, "keyward_hsm_waiting") == 1 })
	if err := randoms(c); command.ClassOf(err) != command.Unavailable || !strings.Contains(err.Error(), "wait for a free place already") {
		t.Errorf("the third: %v", err)
	}
	setFaults(t, d, hsm.Faults{})
	for _, result := range []chan error{first, second} {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	if got := value(t, reg, "keyward_hsm_in_flight"); got != 0 {
		t.Errorf("%v commands are in flight after all have ended", got)
	}
	if got := value(t, reg, "keyward_hsm_commands_total"); got != 3 {
		t.Errorf("%v commands were counted, want 3", got)
	}
	if got := value(t, reg, "keyward_hsm_command_seconds"); got != 3 {
		t.Errorf("%v times were taken, want 3", got)
	}
}

// A waiting caller leaves with its context, and one without a deadline leaves when the last member goes.
func TestWaitersLeave(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	m := spec("a", d)
	m.Depth = 1
	c := start(t, hsmclient.Config{Members: []member.Spec{m}})
	setFaults(t, d, hsm.Faults{Hold: []string{"N0"}})
	results := make(chan error, 2)
	go func() { results <- randoms(c) }()
	waitHeld(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Random(ctx, 8); command.ClassOf(err) != command.Unavailable || !strings.Contains(err.Error(), "no free place") {
		t.Errorf("a waiter with a deadline: %v", err)
	}
	go func() { results <- randoms(c) }()
	setFaults(t, d, hsm.Faults{Refuse: true, Hold: []string{"N0"}}) // still held, so that no answer slips out
	for range 2 {
		select {
		case err := <-results:
			if err == nil {
				t.Error("a command succeeded without a member")
			}
		case <-time.After(patience):
			t.Fatal("a caller hangs without a member")
		}
	}
}
