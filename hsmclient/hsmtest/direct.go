package hsmtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// Direct is a client over one channel of one device, without a cluster: with it a new driver passes the suite before anything else.
type Direct struct {
	Driver  driver.Driver
	Channel driver.Channel
	Domain  string // every key must be of it
}

var _ Client = Direct{}

// talk is the conversation of a caller on the channel.
type talk struct{ on driver.Channel }

// Exchange implements driver.Conversation.
func (v talk) Exchange(ctx context.Context, request []byte) ([]byte, error) {
	return v.on.Exchange(ctx, request)
}

// Do implements driver.Conversation.
func (v talk) Do(ctx context.Context, _ string, _ int, work func(context.Context, driver.Channel) (int, string, error)) error {
	_, _, err := work(ctx, v.on)
	return err
}

// direct asks the driver for one capability.
func direct[D, R any](c Direct, what string, do func(D, driver.Conversation) (R, error), used ...keys.Wrapped) (R, error) {
	var none R
	d, ok := c.Driver.(D)
	if !ok {
		return none, &command.Error{Class: command.NoLicence, Command: what, Err: fmt.Errorf("driver %s cannot do this", c.Driver.Name())}
	}
	for _, key := range used {
		if key.Domain != c.Domain || key.IsZero() {
			return none, &command.Error{Class: command.CallerFault, Command: what, Err: fmt.Errorf("key %s is missing or of another LMK domain", key)}
		}
	}
	result, err := do(d, talk{c.Channel})
	if errors.Is(err, driver.ErrMalformed) {
		c.Channel.Close(err)
	}
	return result, err
}

// MakeWorkKey implements command.WorkKeyMaker.
func (c Direct) MakeWorkKey(ctx context.Context, req command.WorkKey) (command.MadeKey, error) {
	return direct(c, "make_work_key", func(d driver.WorkKeyMaker, on driver.Conversation) (command.MadeKey, error) {
		return d.MakeWorkKey(ctx, on, req)
	}, req.Master)
}

// TranslatePIN implements command.PINTranslator.
func (c Direct) TranslatePIN(ctx context.Context, req command.PINTranslation) (secret.PINBlock, error) {
	return direct(c, "translate_pin", func(d driver.PINTranslator, on driver.Conversation) (secret.PINBlock, error) {
		return d.TranslatePIN(ctx, on, req)
	}, req.From, req.To)
}

// MAC implements command.MACer.
func (c Direct) MAC(ctx context.Context, in command.MACInput) ([]byte, error) {
	return direct(c, "mac", func(d driver.MACer, on driver.Conversation) ([]byte, error) { return d.MAC(ctx, on, in) }, in.Key)
}

// VerifyMAC implements command.MACer.
func (c Direct) VerifyMAC(ctx context.Context, in command.MACInput, expect []byte) (bool, error) {
	return direct(c, "verify_mac", func(d driver.MACer, on driver.Conversation) (bool, error) { return d.VerifyMAC(ctx, on, in, expect) }, in.Key)
}

// DecryptTrack implements command.DataDecrypter.
func (c Direct) DecryptTrack(ctx context.Context, key keys.Wrapped, cipher []byte) (secret.Track, error) {
	return direct(c, "decrypt_track", func(d driver.DataDecrypter, on driver.Conversation) (secret.Track, error) {
		return d.DecryptTrack(ctx, on, key, cipher)
	}, key)
}

// Diversify implements command.Diversifier.
func (c Direct) Diversify(ctx context.Context, req command.Diversification) (keys.Wrapped, error) {
	return direct(c, "diversify", func(d driver.Diversifier, on driver.Conversation) (keys.Wrapped, error) {
		return d.Diversify(ctx, on, req)
	}, req.Root)
}

// ExportForCard implements command.CardExporter.
func (c Direct) ExportForCard(ctx context.Context, req command.CardExport) (command.CardScript, error) {
	return direct(c, "export_for_card", func(d driver.CardExporter, on driver.Conversation) (command.CardScript, error) {
		return d.ExportForCard(ctx, on, req)
	}, req.Control, req.Key)
}

// CheckValue implements command.Checker.
func (c Direct) CheckValue(ctx context.Context, key keys.Wrapped) (keys.KCV, error) {
	return direct(c, "check_value", func(d driver.Checker, on driver.Conversation) (keys.KCV, error) { return d.CheckValue(ctx, on, key) }, key)
}

// Random implements command.Randomizer.
func (c Direct) Random(ctx context.Context, n int) ([]byte, error) {
	return direct(c, "random", func(d driver.Randomizer, on driver.Conversation) ([]byte, error) { return d.Random(ctx, on, n) })
}

// Diagnose implements command.Diagnoser.
func (c Direct) Diagnose(ctx context.Context) (command.Diagnosis, error) {
	return c.Driver.Diagnose(ctx, talk{c.Channel})
}

// StoreKey implements command.KeyStorer.
func (c Direct) StoreKey(ctx context.Context, req command.NewKey) (keys.Wrapped, error) {
	key, err := direct(c, "store_key", func(d driver.KeyStorer, on driver.Conversation) (keys.Wrapped, error) {
		return d.StoreKey(ctx, on, req)
	})
	if err == nil {
		key.Domain = c.Domain // a driver knows no domains but those of its keys
	}
	return key, err
}

// ExportUnderZMK implements command.ZoneExchanger.
func (c Direct) ExportUnderZMK(ctx context.Context, zmk, key keys.Wrapped) (command.ZoneKey, error) {
	return direct(c, "export_under_zmk", func(d driver.ZoneExchanger, on driver.Conversation) (command.ZoneKey, error) {
		return d.ExportUnderZMK(ctx, on, zmk, key)
	}, zmk, key)
}

// ImportUnderZMK implements command.ZoneExchanger.
func (c Direct) ImportUnderZMK(ctx context.Context, zmk keys.Wrapped, key command.ZoneKey) (keys.Wrapped, error) {
	return direct(c, "import_under_zmk", func(d driver.ZoneExchanger, on driver.Conversation) (keys.Wrapped, error) {
		return d.ImportUnderZMK(ctx, on, zmk, key)
	}, zmk)
}

// TranslateLMK implements command.LMKTranslator; the key is of another domain on purpose.
func (c Direct) TranslateLMK(ctx context.Context, key keys.Wrapped, to string) (keys.Wrapped, error) {
	return direct(c, "translate_lmk", func(d driver.LMKTranslator, on driver.Conversation) (keys.Wrapped, error) {
		return d.TranslateLMK(ctx, on, key, to)
	})
}
