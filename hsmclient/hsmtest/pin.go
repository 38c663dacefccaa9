package hsmtest

import (
	"bytes"
	"context"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

const (
	cardNumber  = "6222020000000000018"
	otherNumber = "6222029999999999997" // gives digits above 9 in every block of another card
)

// translatePIN: a terminal's block comes out under the zone key with the same PIN.
func translatePIN(t *testing.T, ctx context.Context, f Fixture) {
	pan := panOf(t, cardNumber)
	tdesZone, sm4Zone := f.wrap(t, keys.ZonePIN, keys.TDES, zoneKey), f.wrap(t, keys.ZonePIN, keys.SM4, zoneKey)
	tdesPIK, tdesClear := f.made(t, ctx, keys.PINKey, keys.TDES)
	sm4PIK, sm4Clear := f.made(t, ctx, keys.PINKey, keys.SM4)
	for _, pin := range []string{"1234", "123456", "123456789012"} {
		iso0, wide := pinBlockISO0(t, pin, pan), pinBlockWide(t, pin, pan)
		for _, c := range []struct {
			name    string
			req     command.PINTranslation
			toAlg   keys.Algorithm
			toClear []byte
		}{
			{"TDES to TDES", command.PINTranslation{From: tdesPIK, To: tdesZone, FromFormat: command.PINISO0, ToFormat: command.PINISO0,
				Block: secret.New(encrypt(t, keys.TDES, tdesClear, iso0))}, keys.TDES, iso0},
			{"SM4 to TDES", command.PINTranslation{From: sm4PIK, To: tdesZone, FromFormat: command.PINSM4Wide, ToFormat: command.PINISO0,
				Block: secret.New(encrypt(t, keys.SM4, sm4Clear, wide))}, keys.TDES, iso0},
			{"SM4 to SM4", command.PINTranslation{From: sm4PIK, To: sm4Zone, FromFormat: command.PINSM4Wide, ToFormat: command.PINSM4Wide,
				Block: secret.New(encrypt(t, keys.SM4, sm4Clear, wide))}, keys.SM4, wide},
			{"TDES to SM4", command.PINTranslation{From: tdesPIK, To: sm4Zone, FromFormat: command.PINISO0, ToFormat: command.PINSM4Wide,
				Block: secret.New(encrypt(t, keys.TDES, tdesClear, iso0))}, keys.SM4, wide},
		} {
			c.req.PAN = pan
			got, err := f.Client.TranslatePIN(ctx, c.req)
			if err != nil {
				t.Errorf("%s, %d digits: %v", c.name, len(pin), err)
				continue
			}
			if !bytes.Equal(decrypt(t, c.toAlg, unhex(t, zoneKey), got.Reveal()), c.toClear) {
				t.Errorf("%s, %d digits: another block came out", c.name, len(pin))
			}
		}
	}
}

func translateZonePIN(t *testing.T, ctx context.Context, f Fixture) {
	pan := panOf(t, cardNumber)
	clear := pinBlockISO0(t, "123456", pan)
	got, err := f.Client.TranslatePIN(ctx, command.PINTranslation{
		From: f.wrap(t, keys.ZonePIN, keys.TDES, otherKey), To: f.wrap(t, keys.ZonePIN, keys.TDES, zoneKey), FromFormat: command.PINISO0,
		ToFormat: command.PINISO0, Block: secret.New(encrypt(t, keys.TDES, unhex(t, otherKey), clear)), PAN: pan,
	})
	if err != nil || !bytes.Equal(decrypt(t, keys.TDES, unhex(t, zoneKey), got.Reveal()), clear) {
		t.Errorf("zone to zone: another block came out (%v)", err)
	}
}

// refusePIN: a PIN problem is the caller's fault and says so; a wrong key type is the caller's fault and no PIN problem.
func refusePIN(t *testing.T, ctx context.Context, f Fixture) {
	pan := panOf(t, cardNumber)
	key, clear := f.made(t, ctx, keys.PINKey, keys.TDES)
	mak, _ := f.made(t, ctx, keys.MACKey, keys.TDES)
	zone := f.wrap(t, keys.ZonePIN, keys.TDES, zoneKey)
	good := command.PINTranslation{From: key, To: zone, FromFormat: command.PINISO0, ToFormat: command.PINISO0,
		Block: secret.New(encrypt(t, keys.TDES, clear, pinBlockISO0(t, "123456", pan))), PAN: pan}
	with := func(change func(*command.PINTranslation)) command.PINTranslation { r := good; change(&r); return r }
	for _, c := range []struct {
		what string
		req  command.PINTranslation
		pin  bool
	}{
		{"another card number", with(func(r *command.PINTranslation) { r.PAN = panOf(t, otherNumber) }), true},
		{"a block of another key", with(func(r *command.PINTranslation) {
			r.Block = secret.New(encrypt(t, keys.TDES, unhex(t, otherKey), pinBlockISO0(t, "123456", pan)))
		}), true},
		{"a PIN of three digits", with(func(r *command.PINTranslation) {
			r.Block = secret.New(encrypt(t, keys.TDES, clear, pinBlockISO0(t, "123", pan)))
		}), true},
		{"from a MAC key", with(func(r *command.PINTranslation) { r.From = mak }), false},
		{"back to a terminal", with(func(r *command.PINTranslation) { r.To = key }), false},
		{"a short block", with(func(r *command.PINTranslation) { r.Block = secret.New(make([]byte, 7)) }), false},
		{"a format of another cipher", with(func(r *command.PINTranslation) { r.ToFormat = command.PINSM4Wide }), false},
		{"no card number", with(func(r *command.PINTranslation) { r.PAN = secret.PAN{} }), false},
	} {
		_, err := f.Client.TranslatePIN(ctx, c.req)
		wantClass(t, c.what, err, command.CallerFault)
		if command.IsPIN(err) != c.pin {
			t.Errorf("%s: IsPIN is %v", c.what, !c.pin)
		}
	}
	// A MAC key that claims to be a PIN key is found out by the device: it comes out of the LMK as something else.
	if got, err := f.Client.TranslatePIN(ctx, with(func(r *command.PINTranslation) { r.From = as(mak, keys.PINKey) })); err == nil {
		t.Errorf("a MAC key served as a PIN key (%d bytes)", got.Len())
	}
}
