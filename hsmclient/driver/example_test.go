package driver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/wire"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/sim/hsm"
)

// acme is the example of docs/hsm-driver.md: a driver that can say who its device is, and get random numbers.
type acme struct{}

// 1. The driver says what it implements; the compiler holds it to that.
var (
	_ driver.Maker      = newAcme
	_ driver.Driver     = acme{}
	_ driver.Opener     = acme{}
	_ driver.Capable    = acme{}
	_ driver.Randomizer = acme{}
	_ driver.Resulter   = acme{}
)

// 2. The maker reads the settings of a member. This family has none, so that every setting is a mistake.
func newAcme(settings map[string]string) (driver.Driver, error) {
	for name := range settings {
		return nil, fmt.Errorf("acme driver: setting %q is not known, the driver has none", name)
	}
	return acme{}, nil
}

func (acme) Name() string { return "acme" }

func (acme) Capabilities() command.Capability { return command.CanRandom }

// 3. A channel: frames with a length in front are wire's business, the proof of labels included.
func (acme) Open(ctx context.Context, to driver.Target) (driver.Channel, error) {
	c, err := wire.Open(ctx, wire.Config{HeaderLength: 4, Echo: true, Trailer: true, Probe: "NC"}, to)
	if err != nil {
		return nil, err // not c: a nil *wire.Channel in the interface would not be nil
	}
	return c, nil
}

// 4. The diagnosis, by which the cluster admits a member.
func (acme) Diagnose(ctx context.Context, on driver.Conversation) (command.Diagnosis, error) {
	const checkDigits, firmware = 16, 9
	fields, err := ask(ctx, on, "NC", "")
	if err != nil {
		return command.Diagnosis{}, err
	}
	if len(fields) != checkDigits+firmware || strings.Trim(fields[:checkDigits], "0123456789ABCDEF") != "" {
		return command.Diagnosis{}, malformed("NC", "%d characters", len(fields)) // lengths only, never content
	}
	return command.Diagnosis{LMKCheck: keys.KCV(fields[:checkDigits]), Firmware: fields[checkDigits:]}, nil
}

// 5. A capability: what is wrong with the request is said before anything is sent, and the answer is taken whole or not at all.
func (acme) Random(ctx context.Context, on driver.Conversation, n int) ([]byte, error) {
	const most = 256 // command.Randomizer
	if n < 1 || n > most {
		return nil, &command.Error{Class: command.CallerFault, Command: "N0", Err: fmt.Errorf("%d random bytes were asked for, want 1 to %d", n, most)}
	}
	fields, err := ask(ctx, on, "N0", fmt.Sprintf("%03d", n))
	if err != nil {
		return nil, err
	}
	if len(fields) != n {
		return nil, malformed("N0", "%d bytes, want %d", len(fields), n)
	}
	return []byte(fields), nil
}

// ask sends a command and gives the fields behind response code and error code. What Exchange returns as an error is classed already.
func ask(ctx context.Context, on driver.Conversation, code, fields string) (string, error) {
	answer, err := on.Exchange(ctx, []byte(code+fields))
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(string(answer), code[:1]+string(code[1]+1))
	if !ok || len(rest) < 2 {
		return "", malformed(code, "not the answer to it")
	}
	if rest[:2] != "00" {
		return "", &command.Error{Class: classOf(rest[:2]), Command: code, Code: rest[:2]}
	}
	return rest[2:], nil
}

// 6. The class of each error code: what it means for the member and for the caller.
func classOf(code string) command.Class {
	switch code {
	case "41", "42":
		return command.MemberFault // broken: the cluster asks another one
	case "68":
		return command.NoLicence // this one cannot: the cluster asks another one
	}
	return command.CallerFault // the same on every device: said at once
}

func malformed(code, format string, args ...any) error {
	return &command.Error{
		Class: command.MemberFault, Command: code, Err: fmt.Errorf("%w: "+format, append([]any{driver.ErrMalformed}, args...)...),
	}
}

// ResultOf gives the journal the error code.
func (acme) ResultOf(answer []byte) string {
	if len(answer) < 4 {
		return ""
	}
	return string(answer[2:4])
}

// TestExampleDriver keeps the example true: over a cluster, against the simulated device.
func TestExampleDriver(t *testing.T) {
	t.Parallel()
	device, err := hsm.New(hsm.Config{Ports: []hsm.Port{{Name: "all", Addr: "127.0.0.1:0", Allow: hsm.AllCommands()}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(t, device.Stop) }()
	c, err := hsmclient.New(hsmclient.Config{
		Domains: []hsmclient.Domain{{Name: "example", Needs: command.CanRandom}}, Drivers: map[string]driver.Maker{"acme": newAcme},
		Members: []member.Spec{{Name: "acme1", Driver: "acme", Addr: device.Addr("all").String()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(t, c.Stop) }()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := c.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Random(ctx, 16); err != nil || len(b) != 16 {
		t.Errorf("%d random bytes, %v", len(b), err)
	}
	if d, err := c.Diagnose(ctx); err != nil || d.LMKCheck != hsmclient.TestLMKCheck {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := c.CheckValue(ctx, keys.Wrapped{Usage: keys.Seal, Domain: "example", Cryptogram: "U"}); command.ClassOf(err) != command.NoLicence {
		t.Errorf("what the driver lacks: %v", err)
	}
	if err := device.SetFaults(hsm.Faults{ErrorCodes: map[string]string{"N0": "15"}}); err != nil {
		t.Fatal(err)
	}
	var e *command.Error
	if _, err := c.Random(ctx, 16); !errors.As(err, &e) || e.Class != command.CallerFault || e.Code != "15" {
		t.Errorf("an error of the device: %v", err)
	}
}

func stop(t *testing.T, end func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := end(ctx); err != nil {
		t.Error(err)
	}
}
