package hsmtest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/keys/secret"
)

func checkValue(t *testing.T, ctx context.Context, f Fixture) {
	for _, usage := range []keys.Usage{
		keys.Root, keys.CardControl, keys.TerminalMaster, keys.PINKey, keys.MACKey, keys.TrackKey, keys.ZonePIN, keys.ZoneMAC, keys.ZoneMaster, keys.Seal,
	} {
		for _, algorithm := range []keys.Algorithm{keys.TDES, keys.SM4} {
			want, err := kcv.Of(algorithm, secret.New(unhex(t, zoneKey)))
			if err != nil {
				t.Fatal(err)
			}
			// The key has odd parity, and DES ignores parity: the value is the same either way.
			if got, err := f.Client.CheckValue(ctx, f.wrap(t, usage, algorithm, zoneKey)); err != nil || len(got) != 16 || !got.Matches(want) {
				t.Errorf("%s %s: got %s (%v), want %s", algorithm, usage, got, err, want)
			}
		}
	}
	broken := f.wrap(t, keys.MACKey, keys.TDES, zoneKey)
	broken.Cryptogram = broken.Cryptogram[:len(broken.Cryptogram)-1]
	_, err := f.Client.CheckValue(ctx, broken)
	wantClass(t, "a cut cryptogram", err, command.CallerFault)
	_, err = f.Client.CheckValue(ctx, keys.Wrapped{})
	wantClass(t, "no key", err, command.CallerFault)
}

func random(t *testing.T, ctx context.Context, f Fixture) {
	for _, n := range []int{1, 8, 16, 256} {
		one, err := f.Client.Random(ctx, n)
		if err != nil || len(one) != n {
			t.Fatalf("%d bytes: got %d, %v", n, len(one), err)
		}
		if two, err := f.Client.Random(ctx, n); n >= 8 && (err != nil || bytes.Equal(one, two)) {
			t.Errorf("%d bytes: the same twice, or %v", n, err)
		}
	}
	for _, n := range []int{-1, 0, 257} {
		_, err := f.Client.Random(ctx, n)
		wantClass(t, "a wrong number of bytes", err, command.CallerFault)
	}
}

func diagnose(t *testing.T, ctx context.Context, f Fixture) {
	got, err := f.Client.Diagnose(ctx)
	if err != nil || len(got.LMKCheck) != 16 || got.Firmware == "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// otherDomain: a key of another LMK is refused before it is sent.
func otherDomain(t *testing.T, ctx context.Context, f Fixture) {
	key := f.wrap(t, keys.MACKey, keys.TDES, zoneKey)
	key.Domain = "some other domain"
	_, err := f.Client.MAC(ctx, command.MACInput{Key: key, Algorithm: command.MACAlg1, Data: []byte("x")})
	wantClass(t, "MAC", err, command.CallerFault)
	_, err = f.Client.CheckValue(ctx, key)
	wantClass(t, "check value", err, command.CallerFault)
}

// endedContext: a caller that has hung up gets its answer at once, and it says so.
func endedContext(t *testing.T, ctx context.Context, f Fixture) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := f.Client.Random(ended, 8)
	wantClass(t, "cancelled", err, command.Unavailable)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not name the cause", err)
	}
}
