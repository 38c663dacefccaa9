package keyservice

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/keys"
)

// writeStep is which key a script writes. The order in a card is the order of the constants.
type writeStep string

const (
	stepCardControl writeStep = "card-control"        // under the maker's transport key, in 3F00
	stepAppControl  writeStep = "application-control" // under the card control key, in DF01
	stepMaster      writeStep = "master"              // under the application control key, in DF01
)

// Bytes of WRITE KEY (facts/psam.md §3.2 and §2.4).
const (
	ld16         = 0x13 // LD for a key of 16 bytes: usage, id, algorithm and key
	usageControl = 0x00
	idControl    = 0x00
	usageMaster  = 0x10 // "unwrap only", from the reserved range (docs/psam-sim.md, Keys)
)

// writeForm is what WRITE KEY has of a cipher, with keys of 16 bytes.
type writeForm struct {
	lc        byte // cipher and 4 bytes MAC
	block     int  // bytes
	algorithm byte // of the key record (docs/psam-sim.md, Keys)
	idMaster  byte // the SM4 twin of a key has the id + 40 (facts/psam.md §1.2)
}

var writeForms = map[keys.Algorithm]writeForm{
	keys.TDES: {lc: 0x1C, block: 8, algorithm: 0x00, idMaster: 0x01},
	keys.SM4:  {lc: 0x24, block: 16, algorithm: 0x04, idMaster: 0x41},
}

// command is CLA INS P1 P2 Lc; the MAC covers it.
func (f writeForm) command() []byte { return []byte{0x84, 0xD4, 0x00, 0x00, f.lc} }

// keyHeader is LD, usage, id and algorithm in front of the key.
func (f writeForm) keyHeader(s writeStep) []byte {
	if s == stepMaster {
		return []byte{ld16, usageMaster, f.idMaster, f.algorithm}
	}
	return []byte{ld16, usageControl, idControl, f.algorithm}
}

// scriptKeys finds the control key and the key to write, both active and of the cipher.
func (a *App) scriptKeys(ctx context.Context, psamNo string, step writeStep, cipher keys.Algorithm) (control, key keystore.Key, err error) {
	card := func(name string, usage keys.Usage) (keystore.Key, error) {
		k, err := a.store.Newest(ctx, name, usage, cipher)
		if errors.Is(err, keystore.ErrNotFound) {
			return k, fmt.Errorf("card %s: %w", psamNo, errNotDerived)
		}
		if err == nil && !k.State.Usable() {
			err = fmt.Errorf("key %s (%s) is %s: %w", k.Name, k.Usage, k.State, keystore.ErrState)
		}
		return k, err
	}
	var controlErr, keyErr error
	switch step {
	case stepCardControl:
		control, controlErr = a.parent(ctx, makerKey, keys.CardControl, cipher)
		key, keyErr = card(keystore.CardName(psamNo), keys.CardControl)
	case stepAppControl:
		control, controlErr = card(keystore.CardName(psamNo), keys.CardControl)
		key, keyErr = card(keystore.AppName(psamNo), keys.CardControl)
	case stepMaster:
		control, controlErr = card(keystore.AppName(psamNo), keys.CardControl)
		key, keyErr = card(keystore.CardName(psamNo), keys.TerminalMaster)
	}
	if err := errors.Join(controlErr, keyErr); err != nil {
		return control, key, err
	}
	return a.together(ctx, control, key)
}

// together gives two keys in one LMK domain, as a command needs them (C7): while keys move, one may have changed over before the other. Where
// neither has a twin in the other's domain yet, because the card is being issued at this moment, one is made.
func (a *App) together(ctx context.Context, control, key keystore.Key) (keystore.Key, keystore.Key, error) {
	there, err := a.store.InDomain(ctx, control, key.Domain)
	if err == nil {
		return there, key, nil
	}
	if !errors.Is(err, keystore.ErrNotFound) {
		return control, key, err
	}
	back, err := a.store.InDomain(ctx, key, control.Domain)
	if !errors.Is(err, keystore.ErrNotFound) {
		return control, back, err
	}
	if err = a.moves.Follow(ctx, control.ID, key.Domain); err == nil {
		there, err = a.store.InDomain(ctx, control, key.Domain)
		return there, key, err
	}
	if err2 := a.moves.Follow(ctx, key.ID, control.Domain); err2 != nil {
		return control, key, errors.Join(err, err2)
	}
	back, err = a.store.InDomain(ctx, key, control.Domain)
	return control, back, err
}
