package kcv_test

import (
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/keys/secret"
)

// algorithmOf maps the names of the vector file.
func algorithmOf(t *testing.T, name string) keys.Algorithm {
	t.Helper()
	switch {
	case name == "DES":
		return keys.DES
	case strings.HasPrefix(name, "TDES"):
		return keys.TDES
	case strings.HasPrefix(name, "AES"):
		return keys.AES
	case name == "SM4":
		return keys.SM4
	}
	t.Fatalf("vector algorithm %q is not known", name)
	return 0
}

func TestOfVectors(t *testing.T) {
	t.Parallel()
	file := vectors.Load(t, "kcv.json")
	for _, group := range []string{"tdes_ecb_zero", "aes_cmac_zero", "sm4_ecb_zero", "all_zero_key"} {
		for _, v := range file.Group(t, group) {
			got, err := kcv.Of(algorithmOf(t, vectors.Str(v.In, "alg")), secret.New(vectors.Hex(t, v.In, "key")))
			want := vectors.Str(v.Out, "kcv")
			if err != nil || want == "" || !strings.HasPrefix(string(got), want) {
				t.Errorf("%s: got %s, %v; want it to begin with %s", v.ID, got, err, want)
			}
		}
	}
}

func TestAESLegacyVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Load(t, "kcv.json").Group(t, "aes_ecb_zero") {
		got, err := kcv.AESLegacy(secret.New(vectors.Hex(t, v.In, "key")))
		if err != nil || !strings.HasPrefix(string(got), vectors.Str(v.Out, "kcv")) {
			t.Errorf("%s: got %s, %v", v.ID, got, err)
		}
	}
}

// CMAC over the empty message is met in the field but is not X9.24: neither of our forms may ever agree with it.
func TestEmptyMessageFormIsNotOurs(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Load(t, "kcv.json").Group(t, "aes_cmac_empty") {
		key := secret.New(vectors.Hex(t, v.In, "key"))
		for _, form := range []func(secret.Key) (keys.KCV, error){
			kcv.AESLegacy, func(k secret.Key) (keys.KCV, error) { return kcv.Of(keys.AES, k) },
		} {
			got, err := form(key)
			if err != nil || got.Matches(keys.KCV(vectors.Str(v.Out, "kcv"))) {
				t.Errorf("%s: got %s, %v", v.ID, got, err)
			}
		}
	}
}

func TestOfRefusesOtherLengths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		algorithm keys.Algorithm
		length    int
	}{{keys.DES, 16}, {keys.DES, 7}, {keys.TDES, 8}, {keys.TDES, 17}, {keys.AES, 8}, {keys.SM4, 24}, {keys.SM4, 0}, {0, 16}, {99, 8}} {
		if got, err := kcv.Of(c.algorithm, secret.New(make([]byte, c.length))); err == nil {
			t.Errorf("%s with %d bytes gave %s", c.algorithm, c.length, got)
		}
	}
	if _, err := kcv.AESLegacy(secret.New(make([]byte, 8))); err == nil {
		t.Error("an 8-byte AES key was taken")
	}
}
