package racal

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/keyward/keyward/hsmclient/driver"
)

// probes are the safe questions: they change nothing in the device (facts/hsm.md §1.2). RA is not among them, it ends authorised
// activities.
var probes = map[string]func(context.Context, *Driver, driver.Conversation) error{
	cmdNC: func(ctx context.Context, d *Driver, on driver.Conversation) error {
		_, err := d.probeNC(ctx, on)
		return err
	},
	cmdN0: func(ctx context.Context, d *Driver, on driver.Conversation) error {
		_, err := d.Random(ctx, on, probeRandom)
		return err
	},
	cmdB2: probeB2,
	cmdNO: probeNO,
	cmdJK: probeJK,
}

// probeRandom is how many random bytes are a sign of life.
const probeRandom = 8

// Probe implements driver.Prober.
func (d *Driver) Probe(ctx context.Context, on driver.Conversation, name string) error {
	if err := d.CheckProbe(name); err != nil {
		return err
	}
	if name == "" {
		name = cmdNC
	}
	return probes[name](ctx, d, on)
}

// CheckProbe implements driver.Prober.
func (*Driver) CheckProbe(name string) error {
	if _, ok := probes[name]; ok || name == "" {
		return nil
	}
	return refusal(name, "it cannot be the probe command: take one of %s", strings.Join(slices.Sorted(maps.Keys(probes)), ", "))
}

// ResultOf implements driver.Resulter: the error code of an answer, "" where there is none.
func (*Driver) ResultOf(answer []byte) string {
	if len(answer) < headLen || !isCode(string(answer[2:headLen])) {
		return ""
	}
	return string(answer[2:headLen])
}
