package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/keys"
)

// Intent is a key of a card that is about to be derived. It takes the version of its parent.
type Intent struct {
	Name    string
	Usage   keys.Usage
	Parent  Key // the root key
	Factors []string
}

// keyBits is the length of every card key.
const keyBits = 128

// Accept stores what is about to be done, before the HSM is asked: the order, the card's place in it, and one intent for each key. It
// returns the keys in the order of the intents. A key that the card has already is returned as it is, so that a repetition
// never makes a second version; a failed one is intended again.
//
// Errors: ErrOrderUsedUp, ErrOrderChanged, or ErrState for a key that is suspended, retired or destroyed.
func (s *Store) Accept(ctx context.Context, o order.Order, signed order.Signed, psamNo string, intents []Intent, actor string) ([]Key, error) {
	if !o.Covers(psamNo) || len(intents) == 0 {
		return nil, fmt.Errorf("accept order %s: it does not cover card %s, or nothing is to be derived", o.ID, psamNo)
	}
	var made []Key
	err := s.tx(ctx, "accept order "+o.ID, func(tx pgx.Tx) error {
		if err := errors.Join(lock(ctx, tx, "order", o.ID), lock(ctx, tx, "card", psamNo)); err != nil {
			return err
		}
		if err := keepOrder(ctx, tx, o, signed); err != nil {
			return err
		}
		made = made[:0]
		for _, in := range intents {
			k, err := intend(ctx, tx, o, in, actor)
			if err != nil {
				return err
			}
			made = append(made, k)
		}
		return takePlace(ctx, tx, o, psamNo, made[len(made)-1].ID)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// keepOrder stores the order at its first use; later uses must bring the same document.
func keepOrder(ctx context.Context, tx pgx.Tx, o order.Order, signed order.Signed) error {
	names := make([]string, len(o.Algorithms))
	for i, a := range o.Algorithms {
		names[i] = a.String()
	}
	_, err := tx.Exec(ctx, `INSERT INTO issue_orders (order_id, psam_from, count, algorithms, expires_at, approvers, signature, document)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (order_id) DO NOTHING`,
		o.ID, o.PSAMFrom, o.Count, names, o.ExpiresAt, o.Approvers, signed.Signature, signed.Document)
	if err != nil {
		return err
	}
	var known []byte
	if err := tx.QueryRow(ctx, `SELECT document FROM issue_orders WHERE order_id = $1`, o.ID).Scan(&known); err != nil {
		return err
	}
	if !bytes.Equal(known, signed.Document) {
		return ErrOrderChanged
	}
	return nil
}

// takePlace uses the order up by one card, once for each card.
func takePlace(ctx context.Context, tx pgx.Tx, o order.Order, psamNo string, keyID int64) error {
	var used int
	var known bool
	err := tx.QueryRow(ctx, `SELECT count(*), coalesce(bool_or(psam_no = $2), false) FROM issue_order_cards WHERE order_id = $1`, o.ID, psamNo).Scan(&used, &known)
	if err != nil || known {
		return err
	}
	if used >= o.Count {
		return fmt.Errorf("%w: it was for %d cards", ErrOrderUsedUp, o.Count)
	}
	_, err = tx.Exec(ctx, `INSERT INTO issue_order_cards (order_id, psam_no, key_id) VALUES ($1, $2, $3)`, o.ID, psamNo, keyID)
	return err
}

// intend finds the card's key or stores the intent to make it.
func intend(ctx context.Context, tx pgx.Tx, o order.Order, in Intent, actor string) (Key, error) {
	algorithm := in.Parent.Algorithm
	k, err := newest(ctx, tx, in.Name, in.Usage, algorithm)
	switch {
	case err == nil && (k.State == keys.Intended || k.State == keys.Active):
		return k, nil
	case err == nil:
		return Key{}, fmt.Errorf("key %s (%s) is %s: %w", in.Name, in.Usage, k.State, ErrState)
	case !errors.Is(err, ErrNotFound):
		return Key{}, err
	}
	// Nothing usable. What may be left under this version is a failed key, which is tried again, or a destroyed one.
	k, err = one(ctx, tx, `SELECT `+columns+` FROM keys WHERE name = $1 AND usage = $2 AND algorithm = $3 AND version = $4 FOR UPDATE`,
		in.Name, in.Usage.String(), algorithm.String(), in.Parent.Version)
	switch {
	case err == nil:
		if err := k.State.CheckMove(keys.Intended); err != nil {
			return Key{}, fmt.Errorf("%w: %w", ErrState, err)
		}
		from := k.State
		if _, err := tx.Exec(ctx, `UPDATE keys SET state = 'intended', ended_at = NULL, order_id = $2 WHERE key_id = $1`, k.ID, o.ID); err != nil {
			return Key{}, err
		}
		k.State = keys.Intended
		return k, event(ctx, tx, k, "intended", from, keys.Intended, actor, Detail{"order_id": o.ID})
	case !errors.Is(err, ErrNotFound):
		return Key{}, err
	}
	k = Key{
		Wrapped: keys.Wrapped{Usage: in.Usage, Algorithm: algorithm, Version: in.Parent.Version, Domain: in.Parent.Domain},
		Name:    in.Name, State: keys.Intended, Parent: in.Parent.ID, Factors: in.Factors,
	}
	err = tx.QueryRow(ctx, `INSERT INTO keys (name, usage, algorithm, version, lmk_domain, length_bits, parent_id, factors, order_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING key_id`,
		k.Name, k.Usage.String(), algorithm.String(), k.Version, k.Domain, keyBits, k.Parent, k.Factors, o.ID).Scan(&k.ID)
	if err != nil {
		return Key{}, err
	}
	return k, event(ctx, tx, k, "intended", "", keys.Intended, actor, Detail{"order_id": o.ID})
}
