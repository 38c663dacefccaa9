package keyservice

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// errParent says that a key which others come from is not there or not to be used.
var errParent = errors.New("a key that this needs is not usable")

// parent returns the newest version of a root key or of the maker's key, when it is active and the HSM vouches for it.
func (a *App) parent(ctx context.Context, name string, usage keys.Usage, algorithm keys.Algorithm) (keystore.Key, error) {
	k, err := a.store.Newest(ctx, name, usage, algorithm)
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return keystore.Key{}, fmt.Errorf("%w: %s (%s) has not been imported", errParent, name, algorithm)
	case err != nil:
		return keystore.Key{}, err
	case !k.State.Usable():
		return keystore.Key{}, fmt.Errorf("%w: %s (%s) is %s", errParent, name, algorithm, k.State)
	}
	return k, a.vouch(ctx, k)
}

// vouched names a key in the LMK domain in which the HSM has vouched for it; after a move it is asked again.
type vouched struct {
	id     int64
	domain string
}

// vouch asks the HSM once for the check value of a stored key: a swapped cryptogram, another LMK or a public test key shows here,
// before anything is derived.
func (a *App) vouch(ctx context.Context, k keystore.Key) error {
	if _, known := a.checked.Load(vouched{k.ID, k.Domain}); known {
		return nil
	}
	told, err := a.opt.HSM.CheckValue(ctx, k.Wrapped)
	if err != nil {
		return fmt.Errorf("check key %s: %w", k.Name, err)
	}
	if !told.Matches(k.KCV) {
		err := fmt.Errorf("%w: %s: the HSM says %s, stored is %s: %w", errParent, k.Name, told, k.KCV, keystore.ErrCheckValue)
		a.alarm(ctx, k, err)
		return err
	}
	if err := a.refuseTestKey(k.Name, told); err != nil {
		return err
	}
	a.checked.Store(vouched{k.ID, k.Domain}, struct{}{})
	return nil
}

// refuseTestKey refuses public test keys in the production profile.
func (a *App) refuseTestKey(name string, kcv keys.KCV) error {
	return refuseTestKey(a.opt.Config.Profile, name, kcv)
}

func refuseTestKey(profile service.Profile, name string, kcv keys.KCV) error {
	if profile != service.Production {
		return nil
	}
	if err := keys.RefuseTestKey(name, kcv); err != nil {
		return fmt.Errorf("%w: %w", errParent, err)
	}
	return nil
}

// alarm counts and logs a check value that is not the stored one; other errors are for the caller alone.
func (a *App) alarm(ctx context.Context, k keystore.Key, err error) {
	if !errors.Is(err, keystore.ErrCheckValue) {
		return
	}
	a.metrics.mismatches.Inc()
	a.opt.Log.ErrorContext(ctx, "alarm: check value differs from the stored one", "key_id", k.ID, "usage", k.Usage.String(), "version", k.Version, "error", err)
}

// Import stores a root key, the maker's transport key or another key that came out of a ceremony, as a cryptogram under the LMK. The
// HSM must compute its check value; expect, when given, is the value that people wrote down. Card keys (PSAM:…) are refused:
// they are derived, not imported. In the production profile public test keys are refused.
func Import(ctx context.Context, store *keystore.Store, hsm command.Checker, profile service.Profile, name string, key keys.Wrapped, expect keys.KCV, actor string) (keystore.Key, error) {
	if strings.HasPrefix(name, keystore.CardName("")) {
		return keystore.Key{}, fmt.Errorf("import key %s: keys of cards are derived under an order, not imported", name)
	}
	told, err := hsm.CheckValue(ctx, key)
	if err != nil {
		return keystore.Key{}, fmt.Errorf("import key %s: %w", name, err)
	}
	if expect != "" && !expect.Matches(told) {
		return keystore.Key{}, fmt.Errorf("import key %s: the HSM says check value %s, you said %s: compare the cryptogram, its LMK and the ceremony's protocol", name, told, expect)
	}
	if err := refuseTestKey(profile, name, told); err != nil {
		return keystore.Key{}, err
	}
	key.KCV = told
	return store.Import(ctx, name, key, actor)
}
