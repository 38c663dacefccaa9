package seal_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/posp/seal"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// hsmFunc stands for the device: any deterministic function of key and data serves this package's tests.
type hsmFunc func(in command.MACInput) ([]byte, error)

func (f hsmFunc) MAC(_ context.Context, in command.MACInput) ([]byte, error) { return f(in) }

func newSealer(t *testing.T, cryptogram string) *seal.Sealer {
	t.Helper()
	hsm := hsmFunc(func(in command.MACInput) ([]byte, error) {
		sum := sha256.Sum256(append([]byte(in.Key.Cryptogram), in.Data...))
		return sum[:8], nil
	})
	s, err := seal.New(t.Context(), hsm, keys.Wrapped{Usage: keys.Seal, Cryptogram: cryptogram})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	s := newSealer(t, "A")
	sealed := s.Seal([]byte("6222020000000000018"), []byte("txn"))
	if bytes.Contains(sealed, []byte("62220200")) {
		t.Fatal("the clear value is visible")
	}
	if got, err := newSealer(t, "A").Open(sealed, []byte("txn")); err != nil || string(got) != "6222020000000000018" {
		t.Fatalf("another instance with the same key cannot open it: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Open(changed, []byte("txn")); err == nil {
			t.Fatalf("a change of byte %d went unnoticed", i)
		}
	}
	for n := range sealed {
		if _, err := s.Open(sealed[:n], []byte("txn")); err == nil {
			t.Fatalf("a value cut to %d bytes was opened", n)
		}
	}
	if _, err := s.Open(sealed, []byte("other")); err == nil {
		t.Fatal("opened in another context")
	}
	if _, err := newSealer(t, "B").Open(sealed, []byte("txn")); err == nil {
		t.Fatal("opened with another key")
	}
}

// TestMACAlgorithms: each kind of key is asked for the MAC that its devices compute.
func TestMACAlgorithms(t *testing.T) {
	t.Parallel()
	for algorithm, want := range map[keys.Algorithm]command.MACAlgorithm{keys.TDES: command.MACAlg3, keys.AES: command.MACCMAC} {
		hsm := hsmFunc(func(in command.MACInput) ([]byte, error) {
			if in.Algorithm != want {
				t.Errorf("%s: MAC algorithm %d, want %d", algorithm, in.Algorithm, want)
			}
			return make([]byte, 8), nil
		})
		if _, err := seal.New(t.Context(), hsm, keys.Wrapped{Usage: keys.Seal, Algorithm: algorithm, Cryptogram: "A"}); err != nil {
			t.Error(err)
		}
	}
}

func TestDigestPAN(t *testing.T) {
	t.Parallel()
	s := newSealer(t, "A")
	pan, err := secret.ParsePAN("6222020000000000018")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.DigestPAN(pan)) != 16 || !bytes.Equal(s.DigestPAN(pan), newSealer(t, "A").DigestPAN(pan)) {
		t.Fatal("digest is not stable")
	}
	if bytes.Equal(s.DigestPAN(pan), newSealer(t, "B").DigestPAN(pan)) || s.DigestPAN(secret.PAN{}) != nil {
		t.Fatal("digest does not depend on the key, or no number has one")
	}
}

func TestWrongKeyUsageIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := seal.New(t.Context(), nil, keys.Wrapped{Usage: keys.ZonePIN}); err == nil {
		t.Fatal("a zone PIN key was accepted as a sealing key")
	}
}

// TestTwins: the same key in another LMK domain gives the same sealing keys, and serves when the first domain has no device.
func TestTwins(t *testing.T) {
	t.Parallel()
	hsm := func(away string) hsmFunc {
		return func(in command.MACInput) ([]byte, error) {
			if in.Key.Domain == away {
				return nil, &command.Error{Class: command.Unavailable, Command: "M6"}
			}
			sum := sha256.Sum256(append([]byte("the same key"), in.Data...))
			return sum[:8], nil
		}
	}
	old := keys.Wrapped{Usage: keys.Seal, Domain: "old", Cryptogram: "U1"}
	twin := keys.Wrapped{Usage: keys.Seal, Domain: "new", Cryptogram: "S1"}
	before, err := seal.New(t.Context(), hsm(""), old, twin)
	if err != nil {
		t.Fatal(err)
	}
	for _, away := range []string{"old", "new"} {
		after, err := seal.New(t.Context(), hsm(away), old, twin)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := after.Open(before.Seal([]byte("card"), nil), nil); err != nil || string(got) != "card" {
			t.Errorf("without domain %s: %v", away, err)
		}
	}
	if _, err := seal.New(t.Context(), hsm("old"), old); err == nil {
		t.Error("sealing keys without a device")
	}
}
