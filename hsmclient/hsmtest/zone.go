package hsmtest

import (
	"bytes"
	"context"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/keys/secret"
)

// offered gives the client's further interface; a fixture that claims a capability must have it.
func offered[C any](t *testing.T, f Fixture) C {
	t.Helper()
	c, ok := f.Client.(C)
	if !ok {
		t.Fatalf("the client does not offer what its fixture claims")
	}
	return c
}

func clearKCV(t *testing.T, algorithm keys.Algorithm, clear []byte) keys.KCV {
	t.Helper()
	v, err := kcv.Of(algorithm, secret.New(clear))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// exchangeZone: a key that comes in under a ZMK is the key that we enciphered, and one that goes out comes back as the same key.
func exchangeZone(t *testing.T, ctx context.Context, f Fixture) {
	c := offered[command.ZoneExchanger](t, f)
	for _, k := range []struct {
		usage     keys.Usage
		algorithm keys.Algorithm
		scheme    string // plain ECB
	}{
		{keys.ZonePIN, keys.TDES, "X"}, {keys.ZoneMAC, keys.TDES, "X"}, {keys.Seal, keys.TDES, "X"}, {keys.MACKey, keys.TDES, "X"}, {keys.PINKey, keys.TDES, "X"},
		{keys.TrackKey, keys.TDES, "X"}, {keys.TerminalMaster, keys.TDES, "X"}, {keys.CardControl, keys.TDES, "X"}, {keys.MACKey, keys.DES, ""},
		{keys.ZonePIN, keys.SM4, "R"}, {keys.MACKey, keys.SM4, "R"}, {keys.TerminalMaster, keys.SM4, "R"},
	} {
		outer := masterAlgorithm(k.algorithm)
		zmk := f.wrap(t, keys.ZoneMaster, outer, zoneKey)
		clear := oddParity(unhex(t, otherKey))
		if k.algorithm == keys.DES {
			clear = clear[:8]
		}
		want := clearKCV(t, k.algorithm, clear)
		in, err := c.ImportUnderZMK(ctx, zmk, command.ZoneKey{Usage: k.usage, Algorithm: k.algorithm, Version: 3, KCV: want,
			Cipher: k.scheme + upperHex(encrypt(t, outer, oddOnlyDES(t, outer, zoneKey), clear))})
		if err != nil || in.KCV != want[:16] || in.Usage != k.usage || in.Algorithm != k.algorithm || in.Domain != f.Domain || in.Version != 3 {
			t.Errorf("%s %s: came in as %s (%v), want check value %s", k.algorithm, k.usage, in, err, want)
			continue
		}
		out, err := c.ExportUnderZMK(ctx, zmk, in)
		if err != nil || !out.KCV.Matches(want) || out.Usage != k.usage || out.Algorithm != k.algorithm || out.Version != 3 {
			t.Errorf("%s %s: went out with check value %s (%v)", k.algorithm, k.usage, out.KCV, err)
			continue
		}
		if out.Cipher[0] == 'X' || k.algorithm != keys.TDES && len(out.Cipher) <= 33 { // plain ECB: we can look
			text := out.Cipher
			if k.algorithm != keys.DES {
				text = text[1:]
			}
			if got := decrypt(t, outer, oddOnlyDES(t, outer, zoneKey), unhex(t, text)); !bytes.Equal(got, clear) {
				t.Errorf("%s %s: another key went out", k.algorithm, k.usage)
			}
		}
		again, err := c.ImportUnderZMK(ctx, zmk, out)
		if err != nil || again.KCV != in.KCV {
			t.Errorf("%s %s: came back as %s (%v)", k.algorithm, k.usage, again, err)
		}
	}
	refuseZone(t, ctx, f, c)
}

// oddOnlyDES is the clear value that wrap gives to a key.
func oddOnlyDES(t *testing.T, algorithm keys.Algorithm, clearHex string) []byte {
	if algorithm == keys.SM4 {
		return unhex(t, clearHex)
	}
	return oddParity(unhex(t, clearHex))
}

func refuseZone(t *testing.T, ctx context.Context, f Fixture, c command.ZoneExchanger) {
	zmk := f.wrap(t, keys.ZoneMaster, keys.TDES, zoneKey)
	zpk := f.wrap(t, keys.ZonePIN, keys.TDES, otherKey)
	for what, key := range map[string]keys.Wrapped{
		"a root key": f.wrap(t, keys.Root, keys.TDES, otherKey), "a zone master key": zmk, "an SM4 key under TDES": f.wrap(t, keys.ZonePIN, keys.SM4, otherKey), "nothing": {},
	} {
		_, err := c.ExportUnderZMK(ctx, zmk, key)
		wantClass(t, "export of "+what, err, command.CallerFault)
	}
	_, err := c.ExportUnderZMK(ctx, zpk, zpk)
	wantClass(t, "export under a PIN key", err, command.CallerFault)
	good := command.ZoneKey{Usage: keys.ZonePIN, Algorithm: keys.TDES, Cipher: "X" + upperHex(encrypt(t, keys.TDES, oddOnlyDES(t, keys.TDES, zoneKey), oddParity(unhex(t, otherKey))))}
	with := func(change func(*command.ZoneKey)) command.ZoneKey { k := good; change(&k); return k }
	for what, key := range map[string]command.ZoneKey{
		"another check value": with(func(k *command.ZoneKey) { k.KCV = "0000000000000000" }),
		"a cut cryptogram":    with(func(k *command.ZoneKey) { k.Cipher = k.Cipher[:32] }),
		"a root key":          with(func(k *command.ZoneKey) { k.Usage = keys.Root }),
		"another algorithm":   with(func(k *command.ZoneKey) { k.Algorithm = keys.SM4 }),
		"nothing":             {},
	} {
		_, err := c.ImportUnderZMK(ctx, zmk, key)
		wantClass(t, "import of "+what, err, command.CallerFault)
	}
}

// translateLMK: a key of the old LMK becomes the same key under the present one.
func translateLMK(t *testing.T, ctx context.Context, f Fixture) {
	c := offered[command.LMKTranslator](t, f)
	for _, usage := range []keys.Usage{keys.Root, keys.CardControl, keys.TerminalMaster, keys.PINKey, keys.MACKey, keys.TrackKey, keys.ZonePIN, keys.ZoneMAC, keys.ZoneMaster, keys.Seal} {
		for _, algorithm := range []keys.Algorithm{keys.TDES, keys.SM4} {
			clear := oddParity(unhex(t, otherKey))
			old := f.WrapOld(t, usage, algorithm, secret.New(clear))
			old.KCV, old.Version = clearKCV(t, algorithm, clear), 5
			got, err := c.TranslateLMK(ctx, old, f.Domain)
			if err != nil || got.KCV != old.KCV[:16] || got.Domain != f.Domain || got.Usage != usage || got.Algorithm != algorithm || got.Version != 5 || got.Cryptogram == old.Cryptogram {
				t.Errorf("%s %s: became %s (%v)", algorithm, usage, got, err)
				continue
			}
			if check, err := f.Client.CheckValue(ctx, got); err != nil || check != got.KCV {
				t.Errorf("%s %s: the device knows it as %s (%v)", algorithm, usage, check, err)
			}
		}
	}
	old := f.WrapOld(t, keys.ZoneMAC, keys.TDES, secret.New(oddParity(unhex(t, otherKey))))
	wrong := old
	wrong.KCV = "0000000000000000"
	cut := old
	cut.Cryptogram = cut.Cryptogram[:len(cut.Cryptogram)-1]
	for what, key := range map[string]keys.Wrapped{"another check value": wrong, "a cut cryptogram": cut, "a key of the present LMK": f.wrap(t, keys.ZoneMAC, keys.TDES, otherKey)} {
		_, err := c.TranslateLMK(ctx, key, f.Domain)
		wantClass(t, "translate "+what, err, command.CallerFault)
	}
}

// keepKey: a key that stays in the device works by its place, and a label is used once.
func keepKey(t *testing.T, ctx context.Context, f Fixture) {
	c := offered[command.KeyStorer](t, f)
	for _, algorithm := range []keys.Algorithm{keys.TDES, keys.SM4} {
		req := command.NewKey{Label: newLabel(algorithm.String()), Usage: keys.MACKey, Algorithm: algorithm}
		key, err := c.StoreKey(ctx, req)
		if err != nil || key.IsZero() || key.Usage != req.Usage || key.Algorithm != algorithm || len(key.KCV) != 16 || key.Domain != f.Domain {
			t.Fatalf("%s: got %s, %v", algorithm, key, err)
		}
		if got, err := f.Client.CheckValue(ctx, key); err != nil || got != key.KCV {
			t.Errorf("%s: the check value of its place is %s (%v), want %s", algorithm, got, err, key.KCV)
		}
		in := command.MACInput{Key: key, Algorithm: command.MACAlg1, Data: []byte("kept in the device")}
		if algorithm == keys.SM4 {
			in.Algorithm = command.MACSM4CBC
		}
		mac, err := f.Client.MAC(ctx, in)
		if err != nil {
			t.Errorf("%s: MAC: %v", algorithm, err)
			continue
		}
		if ok, err := f.Client.VerifyMAC(ctx, in, mac); err != nil || !ok {
			t.Errorf("%s: its own MAC is %v, %v", algorithm, ok, err)
		}
		_, err = c.StoreKey(ctx, req)
		wantClass(t, "the label twice", err, command.CallerFault)
		// As another usage than it was made for.
		_, err = f.Client.DecryptTrack(ctx, as(key, keys.TrackKey), make([]byte, 16))
		wantClass(t, "a kept MAC key for track data", err, command.CallerFault)
	}
}
