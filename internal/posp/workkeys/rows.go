package workkeys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/workset"
)

// insert stores a new set as pending.
func (k *Keeper) insert(ctx context.Context, terminal string, s *workset.Set) error {
	var tdk, tdkKCV *string
	if !s.TDK.IsZero() {
		kcv := string(s.TDK.KCV)
		tdk, tdkKCV = &s.TDK.Cryptogram, &kcv
	}
	_, err := k.pool.Exec(ctx, `
INSERT INTO work_keys (terminal_id, version, state, algorithm, lmk_domain, master_key_id, psam_no, pik, pik_kcv, mak, mak_kcv,
       tdk, tdk_kcv, answer, request_digest, digest, made_at, expires_at, batch, mak_algorithm)
VALUES ($1, $2, 'pending', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		terminal, int64(s.Version), s.PIK.Algorithm.String(), s.PIK.Domain, s.MasterKey, s.PSAM, s.PIK.Cryptogram, string(s.PIK.KCV),
		s.MAK.Cryptogram, string(s.MAK.KCV), tdk, tdkKCV, s.Answer, s.Request[:], s.Digest[:], s.MadeAt, s.ExpiresAt, s.Batch, s.MAK.Algorithm.String())
	return err
}

// load reads the live sets of one terminal, or of all when terminal is "".
func (k *Keeper) load(ctx context.Context, terminal string) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	rows, err := k.pool.Query(ctx, `
SELECT terminal_id, version, state, algorithm, lmk_domain, coalesce(master_key_id, 0), coalesce(psam_no, ''), pik, pik_kcv, mak, mak_kcv,
       coalesce(tdk, ''), coalesce(tdk_kcv, ''), answer, request_digest, digest, made_at, expires_at, first_used_at, ends_at, batch,
       coalesce(mak_algorithm, '')
  FROM work_keys WHERE ($1 = '' OR terminal_id = $1) AND state IN ('pending', 'active', 'grace') ORDER BY terminal_id, version`, terminal)
	if err != nil {
		return err
	}
	found := map[string][]*workset.Set{}
	if terminal != "" {
		found[terminal] = nil
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		id, set, err := scan(row)
		switch {
		case errors.Is(err, errBadSet):
			// The others must not suffer: without this set its terminal has to sign on again.
			k.log.ErrorContext(ctx, "working keys: set is not used", "error", err)
		case err != nil:
			return struct{}{}, err
		default:
			found[id] = append(found[id], set)
		}
		return struct{}{}, nil
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, sets := range found {
		if len(k.unsaid[id]) == 0 { // else memory is newer than what was read
			k.Table.Replace(id, sets)
		}
	}
	return nil
}

// errBadSet says that a stored set cannot be used.
var errBadSet = errors.New("stored set is damaged")

func scan(row pgx.CollectableRow) (string, *workset.Set, error) {
	var s workset.Set
	var id, state, algorithm, domain, pikKCV, makKCV, tdkKCV, makName string
	var version int64
	var request, sum []byte
	var used, ends *time.Time
	err := row.Scan(&id, &version, &state, &algorithm, &domain, &s.MasterKey, &s.PSAM, &s.PIK.Cryptogram, &pikKCV, &s.MAK.Cryptogram,
		&makKCV, &s.TDK.Cryptogram, &tdkKCV, &s.Answer, &request, &sum, &s.MadeAt, &s.ExpiresAt, &used, &ends, &s.Batch, &makName)
	if err != nil {
		return "", nil, err
	}
	alg, err := keys.ParseAlgorithm(algorithm)
	if err != nil {
		return "", nil, fmt.Errorf("%w: terminal %s version %d: %w", errBadSet, id, version, err)
	}
	makAlg := singleOrSet(alg, s.MAK.Cryptogram)
	if makName != "" {
		if makAlg, err = keys.ParseAlgorithm(makName); err != nil {
			return "", nil, fmt.Errorf("%w: terminal %s version %d: %w", errBadSet, id, version, err)
		}
	}
	s.Version, s.State = uint64(version), workset.State(state)
	copy(s.Request[:], request)
	if used != nil {
		s.UsedAt = *used
	}
	if ends != nil {
		s.EndsAt = *ends
	}
	s.PIK = keys.Wrapped{Usage: keys.PINKey, Algorithm: alg, Version: int(version), Domain: domain, Cryptogram: s.PIK.Cryptogram, KCV: keys.KCV(pikKCV)}
	s.MAK = keys.Wrapped{Usage: keys.MACKey, Algorithm: makAlg, Version: int(version), Domain: domain, Cryptogram: s.MAK.Cryptogram, KCV: keys.KCV(makKCV)}
	if s.TDK.Cryptogram != "" {
		s.TDK = keys.Wrapped{Usage: keys.TrackKey, Algorithm: alg, Version: int(version), Domain: domain, Cryptogram: s.TDK.Cryptogram, KCV: keys.KCV(tdkKCV)}
	}
	s.Digest = digest(&s)
	if string(sum) != string(s.Digest[:]) {
		return "", nil, fmt.Errorf("%w: terminal %s version %d: digest does not match; the row was changed by other hands", errBadSet, id, version)
	}
	return id, &s, nil
}

// singleCryptogram is the longest text of a single-length key: a scheme letter and 16 hex digits.
const singleCryptogram = 17

// singleOrSet tells a single-length MAK from the set's algorithm by the length of its cryptogram, in rows that do not say it.
func singleOrSet(set keys.Algorithm, cryptogram string) keys.Algorithm {
	if set == keys.TDES && len(cryptogram) <= singleCryptogram {
		return keys.DES
	}
	return set
}

// digest names the whole set, so that a half-changed one is noticed (A4).
func digest(s *workset.Set) [32]byte {
	h := sha256.New()
	for _, k := range []keys.Wrapped{s.PIK, s.MAK, s.TDK} {
		fmt.Fprintf(h, "%s|%s|%s;", k.Domain, k.Cryptogram, k.KCV)
	}
	fmt.Fprintf(h, "%s|%d|%x", s.PSAM, s.MasterKey, s.Answer)
	return [32]byte(h.Sum(nil))
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
