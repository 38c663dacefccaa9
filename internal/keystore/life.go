package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/keys"
)

// Activate stores what the HSM derived for an intended key. For a key that is active already it compares the check values and
// changes nothing. A difference is ErrCheckValue and is written to the key's events: the same derivation must always give the
// same key, so something is badly wrong.
func (s *Store) Activate(ctx context.Context, id int64, derived keys.Wrapped, actor string) (Key, error) {
	var k Key
	var refused error
	err := s.tx(ctx, "activate the key", func(tx pgx.Tx) (err error) {
		if k, err = locked(ctx, tx, id); err != nil {
			return err
		}
		switch {
		case k.KCV != "" && !k.KCV.Matches(derived.KCV):
			refused = fmt.Errorf("key %s (%s): derived %s, stored %s: %w", k.Name, k.Usage, derived.KCV, k.KCV, ErrCheckValue)
			return event(ctx, tx, k, "kcv_mismatch", "", "", actor, Detail{"stored": k.KCV, "derived": derived.KCV})
		case k.State == keys.Active:
			return nil
		}
		if err := k.State.CheckMove(keys.Active); err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
		if derived.IsZero() || derived.KCV == "" || derived.Domain == "" || derived.Algorithm != k.Algorithm || derived.Usage != k.Usage {
			return fmt.Errorf("what was derived (%s) is not the key that was intended (%s)", derived, k.Wrapped)
		}
		from := k.State
		// The key comes in the domain in which its root works now: it may have moved since the key was intended (C7).
		k.State, k.Domain, k.Cryptogram, k.KCV = keys.Active, derived.Domain, derived.Cryptogram, derived.KCV
		if _, err := tx.Exec(ctx, `UPDATE keys SET state = 'active', lmk_domain = $4, cryptogram = $2, kcv = $3, activated_at = now() WHERE key_id = $1`,
			id, k.Cryptogram, string(k.KCV), k.Domain); err != nil {
			return err
		}
		return event(ctx, tx, k, "derived", from, keys.Active, actor, Detail{"kcv": k.KCV})
	})
	if err = errors.Join(err, refused); err != nil {
		return Key{}, err
	}
	return k, nil
}

// Move takes a key to another state, under the name of an event (suspended, retired …). Illegal moves are ErrState. A destroyed key
// loses its cryptogram, in every LMK domain. Becoming active goes through Activate, unless the key has been active before.
func (s *Store) Move(ctx context.Context, id int64, to keys.State, name, actor string, detail Detail) error {
	return s.tx(ctx, "move the key to "+string(to), func(tx pgx.Tx) error {
		k, err := locked(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := k.State.CheckMove(to); err != nil || (to == keys.Active && k.IsZero()) {
			return fmt.Errorf("key %s is %s: %w", k.Name, k.State, errors.Join(ErrState, err))
		}
		_, err = tx.Exec(ctx, `UPDATE keys SET state = $2, cryptogram = CASE WHEN $2 = 'destroyed' THEN NULL ELSE cryptogram END,
			ended_at = CASE WHEN $2 IN ('retired', 'destroyed', 'failed') THEN now() END WHERE key_id = $1`, id, string(to))
		if err != nil {
			return err
		}
		if to == keys.Destroyed {
			if _, err := tx.Exec(ctx, `UPDATE key_twins SET cryptogram = NULL, erased_at = now() WHERE key_id = $1 AND cryptogram IS NOT NULL`, id); err != nil {
				return err
			}
		}
		return event(ctx, tx, k, name, k.State, to, actor, detail)
	})
}

// RecordExport writes the event of a card script, before the script is handed out. One key leaves under one order at most limit
// times: a card that needs more tries is broken, or is several cards. The error is then ErrOrderUsedUp.
func (s *Store) RecordExport(ctx context.Context, id int64, orderID, actor string, limit int, detail Detail) error {
	return s.tx(ctx, "record the export", func(tx pgx.Tx) error {
		k, err := locked(ctx, tx, id)
		if err != nil {
			return err
		}
		if !k.State.Usable() {
			return fmt.Errorf("key %s is %s: %w", k.Name, k.State, ErrState)
		}
		var times int
		err = tx.QueryRow(ctx, `SELECT count(*) FROM key_events WHERE key_id = $1 AND event = 'exported' AND detail->>'order_id' = $2`, id, orderID).Scan(&times)
		if err != nil {
			return err
		}
		if times >= limit {
			return fmt.Errorf("key %s has been exported %d times under it: %w", k.Name, times, ErrOrderUsedUp)
		}
		full := Detail{"order_id": orderID}
		for name, value := range detail {
			full[name] = value
		}
		return event(ctx, tx, k, "exported", "", "", actor, full)
	})
}

// Import stores a key that came from elsewhere (a ceremony) as active. Importing the same key again changes nothing; importing it for
// another LMK domain stores its twin there, beside the key that works. The error is ErrExists when another key has this name, usage,
// algorithm and version.
func (s *Store) Import(ctx context.Context, name string, key keys.Wrapped, actor string) (Key, error) {
	k := Key{Wrapped: key, Name: name, State: keys.Active}
	if name == "" || key.IsZero() || key.KCV == "" || key.Domain == "" || key.Version < 1 {
		return Key{}, fmt.Errorf("import key %q: name, cryptogram, check value, LMK domain and a version from 1 are needed", name)
	}
	bits := keyBits
	if key.Algorithm == keys.DES {
		bits = keyBits / 2
	}
	err := s.tx(ctx, "import key "+name, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO keys (name, usage, algorithm, version, lmk_domain, cryptogram, kcv, length_bits, state, activated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'active', now()) ON CONFLICT (name, usage, algorithm, version) DO NOTHING RETURNING key_id`,
			name, key.Usage.String(), key.Algorithm.String(), key.Version, key.Domain, key.Cryptogram, string(key.KCV), bits).Scan(&k.ID)
		if err == nil {
			return event(ctx, tx, k, "imported", "", keys.Active, actor, Detail{"kcv": key.KCV})
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		old, err := one(ctx, tx, `SELECT `+columns+` FROM keys WHERE name = $1 AND usage = $2 AND algorithm = $3 AND version = $4`,
			name, key.Usage.String(), key.Algorithm.String(), key.Version)
		if err != nil {
			return err
		}
		if old.State != keys.Active || !old.KCV.Matches(key.KCV) {
			return fmt.Errorf("%w: version %d is %s with check value %s; import the new key as version %d", ErrExists, old.Version, old.State, old.KCV, old.Version+1)
		}
		k = old
		if old.Domain == key.Domain {
			return nil
		}
		k.Wrapped = key
		return keepTwin(ctx, tx, k, actor)
	})
	if err != nil {
		return Key{}, err
	}
	return k, nil
}

// locked reads a key and keeps others from changing it until the transaction ends.
func locked(ctx context.Context, tx pgx.Tx, id int64) (Key, error) {
	return one(ctx, tx, `SELECT `+columns+` FROM keys WHERE key_id = $1 FOR UPDATE`, id)
}
