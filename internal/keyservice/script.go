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
	writeKeyLc = 0x1C // 24 bytes cipher, 4 bytes MAC
	ld16       = 0x13 // LD for a key of 16 bytes: usage, id, algorithm and key
	algTDES    = 0x00 // algorithm byte of triple DES

	usageControl = 0x00
	idControl    = 0x00
	usageMaster  = 0x10 // "unwrap only", from the reserved range (docs/psam-sim.md, Keys)
	idMasterTDES = 0x01
)

// writeKeyHeader is CLA INS P1 P2 Lc of WRITE KEY with a key of 16 bytes; the MAC covers it.
func writeKeyHeader() []byte { return []byte{0x84, 0xD4, 0x00, 0x00, writeKeyLc} }

// header is LD, usage, id and algorithm in front of the key.
func (s writeStep) header() []byte {
	if s == stepMaster {
		return []byte{ld16, usageMaster, idMasterTDES, algTDES}
	}
	return []byte{ld16, usageControl, idControl, algTDES}
}

// scriptKeys finds the control key and the key to write, both active.
func (a *App) scriptKeys(ctx context.Context, psamNo string, step writeStep) (control, key keystore.Key, err error) {
	card := func(name string, usage keys.Usage) (keystore.Key, error) {
		k, err := a.store.Newest(ctx, name, usage, controlCipher)
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
		control, controlErr = a.parent(ctx, makerKey, keys.CardControl, controlCipher)
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
