//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// maxRandom is the limit of command.Randomizer.
const maxRandom = 256

// CheckValue implements driver.Checker.
func (d *Driver) CheckValue(ctx context.Context, on driver.Conversation, key keys.Wrapped) (keys.KCV, error) {
	at, err := checkKey(codeSign, "the key", key)
	if err != nil {
		return "", err
	}
	k, err := hold(ctx, on, at, toMAC)
	if err != nil {
		return "", err
	}
	defer letGo(ctx, on, k)
	return checkValueOf(ctx, on, k)
}

func checkValueOf(ctx context.Context, on driver.Conversation, k heldKey) (keys.KCV, error) {
	return ask(ctx, on, codeSign, aesBlock, func(s *session) (keys.KCV, error) { return s.checkValue(k.handle) })
}

// Random implements driver.Randomizer with C_GenerateRandom.
func (d *Driver) Random(ctx context.Context, on driver.Conversation, n int) ([]byte, error) {
	if n < 1 || n > maxRandom {
		return nil, refusal(codeRandom, "%d random bytes were asked for, want 1 to %d", n, maxRandom)
	}
	return ask(ctx, on, codeRandom, 0, func(s *session) ([]byte, error) {
		b, err := s.lib.ctx.GenerateRandom(s.handle, n)
		if err == nil && len(b) != n {
			return nil, malformed(codeRandom, "%d random bytes, want %d", len(b), n)
		}
		return b, err
	})
}

// Diagnose implements driver.Driver: what the token says of itself, and the check value of the LMK key as it is now.
func (d *Driver) Diagnose(ctx context.Context, on driver.Conversation) (command.Diagnosis, error) {
	info, err := tokenInfo(ctx, on)
	if err != nil {
		return command.Diagnosis{}, err
	}
	if _, err := ask(ctx, on, codeFind, len(d.settings.lmkLabel), func(s *session) (struct{}, error) { return struct{}{}, s.refreshLMK() }); err != nil {
		return command.Diagnosis{}, err
	}
	check, err := ask(ctx, on, codeSign, aesBlock, func(s *session) (keys.KCV, error) { return s.lmkCheck() })
	if err != nil {
		return command.Diagnosis{}, err
	}
	return command.Diagnosis{
		LMKCheck: check, Serial: strings.TrimSpace(info.SerialNumber),
		Firmware: fmt.Sprintf("%d.%d", info.FirmwareVersion.Major, info.FirmwareVersion.Minor),
	}, nil
}

func tokenInfo(ctx context.Context, on driver.Conversation) (p11.TokenInfo, error) {
	return ask(ctx, on, codeTokenInfo, 0, func(s *session) (p11.TokenInfo, error) { return s.lib.ctx.GetTokenInfo(s.slot) })
}

// refreshLMK finds the LMK key anew, because it may have been replaced while we were connected.
func (s *session) refreshLMK() error {
	lmk, err := s.findLMK()
	if err != nil || lmk == s.lmk {
		return err
	}
	s.lmk = lmk
	return s.checkLMK()
}

// lmkCheck is the check value of the LMK key. That it cannot be computed is a fault of the member, whatever the token calls it.
func (s *session) lmkCheck() (keys.KCV, error) {
	check, err := s.checkValue(s.lmk)
	if r := resultOf(err); err != nil && r.meaning().class != command.MemberFault {
		return "", &command.Error{Class: command.MemberFault, Command: codeSign, Code: r.String(), Err: errors.New("the LMK key does not work any more: load it anew")}
	}
	return check, err
}

// probes are the heartbeats that can be chosen. The default shows that token, login and LMK key are there.
var probes = map[string]func(ctx context.Context, on driver.Conversation) error{
	codeSign: func(ctx context.Context, on driver.Conversation) error {
		_, err := ask(ctx, on, codeSign, aesBlock, func(s *session) (keys.KCV, error) { return s.lmkCheck() })
		return err
	},
	codeTokenInfo: func(ctx context.Context, on driver.Conversation) error {
		_, err := tokenInfo(ctx, on)
		return err
	},
	codeRandom: func(ctx context.Context, on driver.Conversation) error {
		_, err := new(Driver).Random(ctx, on, 1)
		return err
	},
}

// Probe implements driver.Prober; the default is C_Sign under the LMK key.
func (d *Driver) Probe(ctx context.Context, on driver.Conversation, name string) error {
	if err := d.CheckProbe(name); err != nil {
		return refusal(name, "%w", err)
	}
	if name == "" {
		name = codeSign
	}
	return probes[name](ctx, on)
}

// CheckProbe implements driver.Prober.
func (d *Driver) CheckProbe(name string) error {
	if _, ok := probes[name]; name != "" && !ok {
		return fmt.Errorf("driver %s cannot probe with %q: take %s (the default), %s or %s", Name, name, codeSign, codeTokenInfo, codeRandom)
	}
	return nil
}
