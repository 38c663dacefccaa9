package keyservice

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/pboc"
)

// Names of the keys that card keys come from.
const (
	rootMaster = "PSAM-ROOT"      // terminal master keys
	rootCard   = "PSAM-CCK"       // card control keys
	rootApp    = "PSAM-ACK"       // application control keys
	makerKey   = "PSAM-TRANSPORT" // the card control key of a blank card
)

// factorBytes is the length of a diversification factor (facts/psam.md §1.1).
const factorBytes = 8

// maxExports is how often one key leaves under one order. A run needs one, a few more after interruptions; a card that needs more
// is broken, or is several cards.
const maxExports = 10

// derive makes the keys of one card. It may be repeated at any time and then gives the same keys: derivation is deterministic, and
// the store finds the intents of the first try.
func (a *App) derive(ctx context.Context, psamNo string, signed order.Signed, wanted []keys.Algorithm, who caller) ([]keystore.Key, error) {
	// Step 1: verify the order: signature, end, range, algorithms.
	o, err := a.verify(signed, psamNo, wanted)
	if err != nil {
		return nil, err
	}
	cipher := cipherOf(o)
	if len(wanted) == 0 {
		wanted = []keys.Algorithm{cipher}
	}
	intents, err := a.intents(ctx, psamNo, cipher, wanted)
	if err != nil {
		return nil, err
	}

	// Step 2: store the intent, with the card's place in the order, before the HSM is asked.
	made, err := a.store.Accept(ctx, o, signed, psamNo, intents, who.name)
	if err != nil {
		return nil, err
	}

	for i, k := range made {
		// Step 3: derive in the HSM, from the parent that was stored with the intent.
		child, err := a.diversify(ctx, k)
		if err != nil {
			return nil, a.giveUp(ctx, k, who, err)
		}

		// Step 4: store cryptogram, check value and events. Another check value than the stored one is refused and alarmed.
		if made[i], err = a.store.Activate(ctx, k.ID, child, who.name); err != nil {
			a.alarm(ctx, k, err)
			return nil, err
		}
	}

	// Step 5: answer with check values and states, never with a cryptogram.
	return made, nil
}

// script makes the command that writes one key into the card that answered challenge.
func (a *App) script(ctx context.Context, psamNo string, signed order.Signed, step writeStep, challenge [4]byte, who caller) ([]byte, error) {
	// Step 1: check the order, that it was used for this card, and that both keys are active.
	o, err := a.verify(signed, psamNo, nil)
	if err != nil {
		return nil, err
	}
	served, err := a.store.Served(ctx, o.ID, psamNo)
	if err != nil {
		return nil, err
	}
	if !served {
		return nil, fmt.Errorf("card %s: %w", psamNo, errNotDerived)
	}
	form := writeForms[cipherOf(o)]
	control, key, err := a.scriptKeys(ctx, psamNo, step, cipherOf(o))
	if err != nil {
		return nil, err
	}

	// Step 2: export in the HSM: header and key under the control key, with the MAC over the whole command.
	out, err := a.opt.HSM.ExportForCard(ctx, command.CardExport{
		Control: control.Wrapped, Key: key.Wrapped, Header: form.keyHeader(step), MACHeader: form.command(), IV: append(challenge[:], make([]byte, form.block-len(challenge))...),
	})
	if err != nil {
		return nil, err
	}

	// Step 3: record the event "exported"; without it the script does not leave.
	if err := a.store.RecordExport(ctx, key.ID, o.ID, who.name, maxExports, keystore.Detail{"step": string(step), "operator": who.operator}); err != nil {
		return nil, err
	}

	// Step 4: answer with the command.
	return append(append(form.command(), out.Cipher...), out.MAC...), nil
}

// Reasons for a refusal that belong to the flow itself.
var (
	errOrder      = errors.New("the order does not allow this")
	errNotDerived = errors.New("no key was derived for the card under this order")
)

// verify returns the order when it is genuine, in time, and allows the card and the algorithms.
func (a *App) verify(signed order.Signed, psamNo string, wanted []keys.Algorithm) (order.Order, error) {
	o, err := order.Verify(a.orderKey, signed, a.opt.Now())
	if err != nil {
		return order.Order{}, fmt.Errorf("%w: %w", errOrder, err)
	}
	if !o.Covers(psamNo) {
		return order.Order{}, fmt.Errorf("%w: order %s does not cover card %s", errOrder, o.ID, psamNo)
	}
	for _, algorithm := range wanted {
		if !slices.Contains(o.Algorithms, algorithm) {
			return order.Order{}, fmt.Errorf("%w: order %s is not for algorithm %s", errOrder, o.ID, algorithm)
		}
	}
	return o, nil
}

// cipherOf is the cipher of a card's control keys, and of the one master key that is written into it: SM4 under an order for SM4 alone,
// triple DES otherwise (facts/psam.md §3.2). A key of one cipher never travels under one of the other, so the maker's transport key
// is of that cipher too.
func cipherOf(o order.Order) keys.Algorithm {
	if slices.Equal(o.Algorithms, []keys.Algorithm{keys.SM4}) {
		return keys.SM4
	}
	return keys.TDES
}

// intents lists what a card gets, control keys of the cipher first, and master keys for the wanted algorithms last.
func (a *App) intents(ctx context.Context, psamNo string, cipher keys.Algorithm, wanted []keys.Algorithm) ([]keystore.Intent, error) {
	factor, err := pboc.FactorOf(psamNo)
	if err != nil {
		return nil, err
	}
	factors := []string{strings.ToUpper(hex.EncodeToString(factor[:]))}
	type line struct {
		root, name string
		usage      keys.Usage
		algorithm  keys.Algorithm
	}
	plan := []line{
		{rootCard, keystore.CardName(psamNo), keys.CardControl, cipher},
		{rootApp, keystore.AppName(psamNo), keys.CardControl, cipher},
	}
	for _, algorithm := range wanted {
		plan = append(plan, line{rootMaster, keystore.CardName(psamNo), keys.TerminalMaster, algorithm})
	}
	var list []keystore.Intent
	for _, p := range plan {
		root, err := a.parent(ctx, p.root, keys.Root, p.algorithm)
		if err != nil {
			return nil, err
		}
		list = append(list, keystore.Intent{Name: p.name, Usage: p.usage, Parent: root, Factors: factors})
	}
	return list, nil
}

// diversify derives one key as its intent says, so that a repetition cannot take another root or other factors.
func (a *App) diversify(ctx context.Context, k keystore.Key) (keys.Wrapped, error) {
	root, err := a.store.Get(ctx, k.Parent)
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("root of key %s: %w", k.Name, err)
	}
	if err := a.vouch(ctx, root); err != nil {
		return keys.Wrapped{}, err
	}
	req := command.Diversification{Root: root.Wrapped, Usage: k.Usage}
	for _, text := range k.Factors {
		factor, err := hex.DecodeString(text)
		if err != nil || len(factor) != factorBytes {
			return keys.Wrapped{}, fmt.Errorf("key %s: a stored factor is not 16 hex digits", k.Name)
		}
		req.Factors = append(req.Factors, [factorBytes]byte(factor))
	}
	child, err := a.opt.HSM.Diversify(ctx, req)
	if err != nil {
		return keys.Wrapped{}, err
	}
	child.Version = k.Version
	return child, a.refuseTestKey(k.Name, child.KCV)
}

// giveUp marks an intended key as failed when the HSM will never make it; after any other fault the intent stays and the same
// request goes on with it.
func (a *App) giveUp(ctx context.Context, k keystore.Key, who caller, cause error) error {
	var refused *command.Error
	if k.State != keys.Intended || !errors.As(cause, &refused) || refused.Class != command.CallerFault {
		return cause
	}
	return errors.Join(cause, a.store.Move(ctx, k.ID, keys.Failed, "failed", who.name, keystore.Detail{"cause": refused.Error()}))
}
