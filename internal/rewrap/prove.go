package rewrap

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

// ErrAway says that the HSM could not be asked now; what was asked for can be tried again.
var ErrAway = errors.New("the HSM cannot be asked now")

// errDiffers says that a key did not move with proof. Its text is for the list of differences.
var errDiffers = errors.New("not moved")

// result is what came of one key: a twin with two check values, or a reason.
type result struct {
	key           stored
	twin          string // cryptogram in the new domain
	before, after keys.KCV
	err           error
}

// prove makes the twin of one key and proves it: the HSM computes the check value in the old domain before and in the new domain after,
// and both must be the stored one. A twin that is there already is proven as it is.
func (e *Engine) prove(ctx context.Context, j Job, k stored) result {
	if command.PriorityOf(ctx) == 0 {
		ctx = command.WithPriority(ctx, command.Background)
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	r := result{key: k}
	if r.before, r.err = e.check(ctx, k.Wrapped, k.KCV, "in the old domain"); r.err != nil {
		return r
	}
	next := k.Wrapped
	next.Domain, next.Cryptogram = j.To, k.twin
	if k.twin == "" {
		if next, r.err = e.translate(ctx, j, k.Wrapped); r.err != nil {
			return r
		}
	}
	r.twin = next.Cryptogram
	r.after, r.err = e.check(ctx, next, k.KCV, "in the new domain")
	return r
}

// check asks the HSM for a check value and compares it with the stored one.
func (e *Engine) check(ctx context.Context, k keys.Wrapped, want keys.KCV, where string) (keys.KCV, error) {
	told, err := e.cfg.Check.CheckValue(ctx, k)
	if err != nil {
		return "", classed(err, "check value "+where)
	}
	if !told.Matches(want) {
		return told, fmt.Errorf("%w: the HSM computes check value %s %s, stored is %s", errDiffers, told, where, want)
	}
	return told, nil
}

// translate moves one key by the job's method.
func (e *Engine) translate(ctx context.Context, j Job, k keys.Wrapped) (keys.Wrapped, error) {
	var moved keys.Wrapped
	var err error
	switch j.Method {
	case Translate:
		if moved, err = e.cfg.Translate.TranslateLMK(ctx, k, j.To); err != nil {
			return moved, classed(err, "translate to the new LMK")
		}
	case ZMK:
		if moved, err = e.exchange(ctx, j, k); err != nil {
			return moved, err
		}
		moved.Version = k.Version // a key under a zone master key carries none
	default:
		return moved, fmt.Errorf("%w: method %q is not known", errDiffers, j.Method)
	}
	if moved.Domain != j.To || moved.IsZero() || moved.Usage != k.Usage || moved.Algorithm != k.Algorithm {
		return moved, fmt.Errorf("%w: what came back is %s, not the key that was sent", errDiffers, moved)
	}
	return moved, nil
}

// exchange exports a key under the zone master key of the old domain and imports it under its twin of the new one.
func (e *Engine) exchange(ctx context.Context, j Job, k keys.Wrapped) (keys.Wrapped, error) {
	zmk, err := e.store.zmk(ctx, j, k.Algorithm)
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("%w: %w", ErrAway, err)
	}
	from, fromErr := inDomain(ctx, e.store.pool, zmk, j.From)
	to, toErr := inDomain(ctx, e.store.pool, zmk, j.To)
	if err := errors.Join(fromErr, toErr); err != nil {
		return keys.Wrapped{}, fmt.Errorf("%w: zone master key %s: %w", ErrAway, j.ZMK, err)
	}
	out, err := e.cfg.Exchange.ExportUnderZMK(ctx, from, k)
	if err != nil {
		return keys.Wrapped{}, classed(err, "export under the zone master key")
	}
	if out.KCV != "" && !out.KCV.Matches(k.KCV) {
		return keys.Wrapped{}, fmt.Errorf("%w: exported with check value %s, stored is %s", errDiffers, out.KCV, k.KCV)
	}
	moved, err := e.cfg.Exchange.ImportUnderZMK(ctx, to, out)
	if err != nil {
		return keys.Wrapped{}, classed(err, "import under the zone master key")
	}
	return moved, nil
}

// classed tells what a refusal of the HSM means: a fault of this key is a difference, everything else is tried again. A missing licence
// is the key's matter too: one algorithm may lack it while the others move.
func classed(err error, what string) error {
	switch command.ClassOf(err) {
	case command.CallerFault, command.NoLicence:
		return fmt.Errorf("%w: %s: %w", errDiffers, what, err)
	default:
		return fmt.Errorf("%w: %s: %w", ErrAway, what, err)
	}
}
