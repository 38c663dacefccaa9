package rewrap

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/keys"
)

// convertible are the usages of keys that stand in configurations. Root and card keys are in the table of keys and move with the job.
var convertible = []keys.Usage{keys.ZonePIN, keys.ZoneMAC, keys.Seal}

// Convert gives the cryptogram of a key that stands in a configuration, zone keys and the sealing key, in the job's new domain, with the
// same proof as every key. Nothing is stored but the audit record. key.Domain may be empty; without a check value of the configuration the
// two of the HSM are compared with each other. The check value of the answer is that of the new domain.
func (e *Engine) Convert(ctx context.Context, id int64, key keys.Wrapped, actor string) (keys.Wrapped, error) {
	j, err := job(ctx, e.store.pool, id, "")
	if err != nil {
		return keys.Wrapped{}, err
	}
	if key.Domain == "" {
		key.Domain = j.From
	}
	switch {
	case !j.State.Open():
		return keys.Wrapped{}, &Refusal{fmt.Sprintf("job %d is %s", j.ID, j.State), "start a job between the two domains first"}
	case key.Domain != j.From:
		return keys.Wrapped{}, &Refusal{fmt.Sprintf("the key is in domain %s, job %d moves keys out of %s", key.Domain, j.ID, j.From), "give a cryptogram of that domain"}
	case !slices.Contains(convertible, key.Usage):
		return keys.Wrapped{}, &Refusal{fmt.Sprintf("a %s key stands in no configuration", key.Usage), "zpk, zak and seal can be converted; every other key moves with the job"}
	case key.IsZero():
		return keys.Wrapped{}, &Refusal{"the cryptogram is missing", "give it as the configuration has it"}
	}
	if err := e.can(j.Method); err != nil {
		return keys.Wrapped{}, err
	}
	if key.KCV == "" {
		if key.KCV, err = e.cfg.Check.CheckValue(ctx, key); err != nil {
			if err = classed(err, "check value in the old domain"); !errors.Is(err, errDiffers) {
				return keys.Wrapped{}, err
			}
			return keys.Wrapped{}, unmoved(err)
		}
	}
	r := e.prove(ctx, j, stored{Wrapped: key, name: key.Usage.String()})
	if errors.Is(r.err, errDiffers) {
		return keys.Wrapped{}, unmoved(r.err)
	}
	if r.err != nil {
		return keys.Wrapped{}, r.err
	}
	err = e.store.tx(ctx, "convert a configured key", func(ctx context.Context, tx pgx.Tx) error {
		return record(ctx, tx, j, "key_converted", actor, map[string]any{
			"usage": key.Usage.String(), "algorithm": key.Algorithm.String(), "version": key.Version, "kcv": string(r.after),
		})
	})
	if err != nil {
		return keys.Wrapped{}, err
	}
	key.Domain, key.Cryptogram, key.KCV = j.To, r.twin, r.after
	return key, nil
}

func unmoved(err error) error {
	return &Refusal{fmt.Sprintf("the key is %v", err), "compare cryptogram, algorithm and check value with the key ceremony's record"}
}
