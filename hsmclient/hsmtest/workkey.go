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

// masterAlgorithm is the terminal master key's for a working key of the algorithm.
func masterAlgorithm(a keys.Algorithm) keys.Algorithm {
	if a == keys.SM4 {
		return keys.SM4
	}
	return keys.TDES
}

// made makes a working key and gives its clear value, as a card would get it.
func (f Fixture) made(t *testing.T, ctx context.Context, usage keys.Usage, algorithm keys.Algorithm) (keys.Wrapped, []byte) {
	t.Helper()
	master := f.wrap(t, keys.TerminalMaster, masterAlgorithm(algorithm), masterKey)
	got, err := f.Client.MakeWorkKey(ctx, command.WorkKey{Master: master, Usage: usage, Algorithm: algorithm})
	if err != nil {
		t.Fatalf("make a %s %s: %v", algorithm, usage, err)
	}
	return got.Key, decrypt(t, masterAlgorithm(algorithm), unhex(t, masterKey), got.UnderMaster)
}

func makeWorkKey(t *testing.T, ctx context.Context, f Fixture) {
	for _, c := range []struct {
		usage     keys.Usage
		algorithm keys.Algorithm
		length    int
	}{
		{keys.PINKey, keys.TDES, 16}, {keys.MACKey, keys.TDES, 16}, {keys.TrackKey, keys.TDES, 16}, {keys.MACKey, keys.DES, 8},
		{keys.PINKey, keys.SM4, 16}, {keys.MACKey, keys.SM4, 16}, {keys.TrackKey, keys.SM4, 16},
	} {
		key, clear := f.made(t, ctx, c.usage, c.algorithm)
		_, again := f.made(t, ctx, c.usage, c.algorithm)
		if len(clear) != c.length || bytes.Equal(clear, again) {
			t.Errorf("%s %s: %d bytes, or the same key twice", c.algorithm, c.usage, len(clear))
		}
		if key.Usage != c.usage || key.Algorithm != c.algorithm || key.Domain != f.Domain {
			t.Errorf("%s %s: the key says that it is %s", c.algorithm, c.usage, key)
		}
		// The value under the master, the value under the LMK and the check value belong to one key.
		want, err := kcv.Of(c.algorithm, secret.New(clear))
		if err != nil || len(key.KCV) != 16 || !key.KCV.Matches(want) {
			t.Errorf("%s %s: check value %s, but the key under the master has %s (%v)", c.algorithm, c.usage, key.KCV, want, err)
		}
		if got, err := f.Client.CheckValue(ctx, key); err != nil || got != key.KCV {
			t.Errorf("%s %s: check value of the key under the LMK is %s, want %s (%v)", c.algorithm, c.usage, got, key.KCV, err)
		}
	}
	master := f.wrap(t, keys.TerminalMaster, keys.TDES, masterKey)
	zone := f.wrap(t, keys.ZonePIN, keys.TDES, zoneKey)
	for what, req := range map[string]command.WorkKey{
		"under a zone key":    {Master: zone, Usage: keys.PINKey, Algorithm: keys.TDES},
		"a zone key":          {Master: master, Usage: keys.ZonePIN, Algorithm: keys.TDES},
		"SM4 under TDES":      {Master: master, Usage: keys.PINKey, Algorithm: keys.SM4},
		"no algorithm":        {Master: master, Usage: keys.PINKey},
		"no master":           {Usage: keys.PINKey, Algorithm: keys.TDES},
		"disguised as a TMK":  {Master: as(zone, keys.TerminalMaster), Usage: keys.PINKey, Algorithm: keys.TDES},
		"another usage named": {Master: as(master, keys.Root), Usage: keys.PINKey, Algorithm: keys.TDES},
	} {
		got, err := f.Client.MakeWorkKey(ctx, req)
		if what == "disguised as a TMK" && err == nil {
			// A device finds out only by the parity of what comes out; a TMK type takes any parity. It must at least not be the
			// zone key that served.
			if clear := decrypt(t, keys.TDES, unhex(t, zoneKey), got.UnderMaster); sameKCV(clear, got.Key.KCV) {
				t.Error("a zone key served as a terminal master key")
			}
			continue
		}
		wantClass(t, what, err, command.CallerFault)
	}
}

// as is a key with a false label.
func as(key keys.Wrapped, usage keys.Usage) keys.Wrapped {
	key.Usage = usage
	return key
}

func sameKCV(clear []byte, want keys.KCV) bool {
	got, err := kcv.Of(keys.TDES, secret.New(clear))
	return err == nil && got.Matches(want)
}
