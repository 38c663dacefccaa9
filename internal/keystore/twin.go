package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// keepTwin stores the cryptogram of a known key in another LMK domain than that in which it works (C7). The same again changes nothing.
func keepTwin(ctx context.Context, tx pgx.Tx, k Key, actor string) error {
	var made bool
	err := tx.QueryRow(ctx, `INSERT INTO key_twins (key_id, lmk_domain, cryptogram, kcv_after, imported) VALUES ($1, $2, $3, $4, true)
		ON CONFLICT (key_id, lmk_domain) WHERE cryptogram IS NOT NULL DO NOTHING RETURNING true`, k.ID, k.Domain, k.Cryptogram, string(k.KCV)).Scan(&made)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return event(ctx, tx, k, "twin_imported", "", "", actor, Detail{"domain": k.Domain, "kcv": k.KCV})
}

// InDomain gives a key as it is held in an LMK domain: as it works, or its twin there. While keys move from one domain to another, the
// keys of one request may work in different ones. The error is ErrNotFound when the key is not there in that domain.
func (s *Store) InDomain(ctx context.Context, k Key, domain string) (Key, error) {
	if k.Domain == domain {
		return k, nil
	}
	var cryptogram string
	// The key may have changed over since it was read.
	err := s.pool.QueryRow(ctx, `SELECT cryptogram FROM keys WHERE key_id = $1 AND lmk_domain = $2 AND cryptogram IS NOT NULL
		UNION ALL SELECT cryptogram FROM key_twins WHERE key_id = $1 AND lmk_domain = $2 AND cryptogram IS NOT NULL LIMIT 1`, k.ID, domain).Scan(&cryptogram)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Key{}, fmt.Errorf("key %s (%s) in LMK domain %s: %w", k.Name, k.Usage, domain, err)
	}
	k.Domain, k.Cryptogram = domain, cryptogram
	return k, nil
}
