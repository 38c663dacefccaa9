//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/driver"
)

// maxNamed bounds the tokens that an error names.
const maxNamed = 8

// Open implements driver.Opener: it loads the library, opens a session, logs in, and looks whether the LMK key is what it must be.
func (d *Driver) Open(ctx context.Context, to driver.Target) (driver.Channel, error) {
	s, err := d.open(ctx, to, (*session).useLMK)
	if err != nil {
		return nil, fmt.Errorf("hsm %s: %w", to.Name, err)
	}
	return s, nil
}

// open makes a session in which the user is logged in; prepare is the last of its calls.
func (d *Driver) open(ctx context.Context, to driver.Target, prepare func(*session) error) (*session, error) {
	if to.TLS != nil {
		return nil, errors.New("TLS is not ours to speak: a PKCS#11 library makes its own connection to the device; take tls out of the member")
	}
	lib, err := acquire(ctx, to.Addr)
	if err != nil {
		return nil, err
	}
	defer lib.release()
	stuck := lib.stuckOf(d.settings)
	if stuck.Load() >= maxStuck {
		return nil, errStuck
	}
	s, returned, err := run(ctx, lib, stuck, nil, func() (*session, error) {
		return d.establish(ctx, lib, to, prepare)
	}, func(s *session, _ error, late bool) {
		if late && s != nil {
			s.Close(errGivenUp)
		}
	})
	if !returned {
		return nil, tooSlow(err)
	}
	return s, err
}

// establish is a sequence of calls any of which may hang; it stops between two of them when nobody waits any more.
func (d *Driver) establish(ctx context.Context, lib *library, to driver.Target, prepare func(*session) error) (*session, error) {
	slot, info, err := d.settings.find(lib)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, tooSlow(err)
	}
	flags := uint(p11.CKF_SERIAL_SESSION)
	if !d.settings.readOnly {
		flags |= p11.CKF_RW_SESSION
	}
	handle, err := lib.ctx.OpenSession(slot, flags)
	if err != nil {
		return nil, fmt.Errorf("open a session with the token %q: %w", info.Label, resultOf(err))
	}
	s := &session{
		lib: lib, stuck: lib.stuckOf(d.settings), handle: handle, slot: slot, cfg: d.settings, onLate: to.Late,
		turn: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if err = lib.login(ctx, handle, info, d.settings.pinFile); err == nil {
		if err = ctx.Err(); err != nil {
			err = tooSlow(err)
		} else {
			err = prepare(s)
		}
	}
	if err != nil {
		_ = lib.ctx.CloseSession(handle) // the first error tells more
		return nil, err
	}
	s.heard.Store(time.Now().UnixNano())
	lib.retain() // until retire
	return s, nil
}

func tooSlow(cause error) error {
	return fmt.Errorf("the PKCS#11 library does not answer in time: %w", cause)
}

// find gives the slot of the token.
func (c settings) find(lib *library) (uint, p11.TokenInfo, error) {
	if c.token == "" {
		info, err := lib.ctx.GetTokenInfo(c.slot)
		if err != nil {
			return 0, p11.TokenInfo{}, fmt.Errorf("slot %d of the PKCS#11 library: %w", c.slot, resultOf(err))
		}
		return c.slot, info, nil
	}
	// Looking where the token was last time asks no other token, one of which may hang.
	if slot, known := lib.slotOf(c.token); known {
		if info, err := lib.ctx.GetTokenInfo(slot); err == nil && info.Label == c.token && info.Flags&p11.CKF_TOKEN_INITIALIZED != 0 {
			return slot, info, nil
		}
	}
	slots, err := lib.ctx.GetSlotList(true)
	if err != nil {
		return 0, p11.TokenInfo{}, fmt.Errorf("list the slots of the PKCS#11 library: %w", resultOf(err))
	}
	var at uint
	var found p11.TokenInfo
	var labels []string
	for _, slot := range slots {
		info, err := lib.ctx.GetTokenInfo(slot)
		if err != nil || info.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			continue // taken away meanwhile, or empty
		}
		if info.Label == c.token {
			if slices.Contains(labels, c.token) {
				return 0, p11.TokenInfo{}, fmt.Errorf("two tokens have the label %q: give each its own, or set slot instead of token", c.token)
			}
			at, found = slot, info
		}
		labels = append(labels, info.Label)
	}
	if !slices.Contains(labels, c.token) {
		return 0, p11.TokenInfo{}, fmt.Errorf("no token has the label %q (the library shows: %s): %s", c.token, shown(labels), meanings[ckrTokenNotPresent].next)
	}
	lib.setSlot(c.token, at)
	return at, found, nil
}

func shown(labels []string) string {
	if len(labels) == 0 {
		return "none"
	}
	return strings.Join(labels[:min(len(labels), maxNamed)], ", ")
}
