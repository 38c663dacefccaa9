package racal

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyward/keyward/hsmclient/driver"
)

// probes are the safe questions: they change nothing in the device (facts/hsm.md §1.2). RA is not among them, it ends authorised
// activities.
var probes = map[string]func(context.Context, *Driver, driver.Conversation) error{
	cmdNC: func(ctx context.Context, d *Driver, on driver.Conversation) error {
		_, err := d.Diagnose(ctx, on)
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

const (
	cmdB2 = "B2" // length 4H · data → data; some devices give nothing back (facts/hsm.md §1.2)

	echoText = "KEYWARD!"
)

func probeB2(ctx context.Context, _ *Driver, on driver.Conversation) error {
	answer, err := on.Exchange(ctx, fmt.Appendf(nil, cmdB2+"%04X"+echoText, len(echoText)))
	if err != nil {
		return err
	}
	f, err := open(cmdB2, answer)
	if err != nil {
		return err
	}
	if len(f.rest) > 0 && !bytes.Equal(f.take(len(echoText), "the echo"), []byte(echoText)) {
		f.fail("the echo is not what was sent")
	}
	return f.end()
}

const cmdNO = "NO" // mode 2N, 00 status → I/O buffer 1N · net 1N · sockets 2N or 4N · firmware 9A · reserved (facts/hsm.md §1.2)

func probeNO(ctx context.Context, _ *Driver, on driver.Conversation) error {
	answer, err := on.Exchange(ctx, []byte(cmdNO+"00"))
	if err != nil {
		return err
	}
	f, err := open(cmdNO, answer)
	if err != nil {
		return err
	}
	f.number(1, 10, "the size of the buffer") // what follows differs between versions of the firmware
	return f.err
}

const (
	cmdJK = "JK" // no fields → serial 12 · date 6 · time 6 · states … · tamper state … (facts/hsm.md §1.2)

	jkHead = 24 // serial number, date and time
)

func probeJK(ctx context.Context, _ *Driver, on driver.Conversation) error {
	answer, err := on.Exchange(ctx, []byte(cmdJK))
	if err != nil {
		return err
	}
	f, err := open(cmdJK, answer)
	if err != nil {
		return err
	}
	f.take(jkHead, "serial number, date and time") // the states behind differ between versions of the firmware
	return f.err
}
