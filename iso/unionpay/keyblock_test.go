package unionpay

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm4"

	"github.com/keyward/keyward/keys/secret"
)

// Made-up keys of facts/unionpay.md §4 "Computed fixtures", and the two blocks computed from them.
const (
	fixtureTMK   = "0123456789ABCDEFFEDCBA9876543210"
	fixturePIK   = "0102030405060708090A0B0C0D0E0F10"
	fixtureMAK8  = "A1A2A3A4A5A6A7A8"
	fixtureMAK16 = "A1A2A3A4A5A6A7A8B1B2B3B4B5B6B7B8"
	fixtureTDK   = "1112131415161718191A1B1C1D1E1F20"
	fixture60    = "A85CEB8CDADFF80855D4ED36CA9AF7ABAD17A756720D29FF7CEE3BD9000000000000000013E9A42264E96B5084AB2DC6DD69D7745748AA7E1D23C4E8"
	fixtureSM4   = "D052DCC19D0EEB7A565720640D8B7E29DD60708C22B82094DDD42E327E69DDE2A866F1D076428347BD7B374D8DF254E7B90C3BF03C814F7E855C3763"
)

// desKey enciphers a key under the master key, block by block, as the HSM does.
func desKey(t *testing.T, master, key string) WorkKey {
	t.Helper()
	clearKey := unhex(t, key)
	m, k := desCipher(t, unhex(t, master)), desCipher(t, clearKey)
	cryptogram, check := make([]byte, len(clearKey)), make([]byte, 8)
	for i := 0; i < len(clearKey); i += 8 {
		m.Encrypt(cryptogram[i:], clearKey[i:])
	}
	k.Encrypt(check, check)
	return WorkKey{Cipher: secret.New(cryptogram), KCV: [4]byte(check)}
}

func sm4Key(t *testing.T, master, key string) WorkKey {
	t.Helper()
	m, err1 := sm4.NewCipher(unhex(t, master))
	k, err2 := sm4.NewCipher(unhex(t, key))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	cryptogram, check := make([]byte, 16), make([]byte, 16)
	m.Encrypt(cryptogram, unhex(t, key))
	k.Encrypt(check, check)
	return WorkKey{Cipher: secret.New(cryptogram), KCV: [4]byte(check)}
}

func sameKey(a, b WorkKey) bool { return a.Cipher.Equal(b.Cipher) && a.KCV == b.KCV }

func TestKeyBlockLayouts(t *testing.T) {
	t.Parallel()
	pik, mak8, tdk := desKey(t, fixtureTMK, fixturePIK), desKey(t, fixtureTMK, fixtureMAK8), desKey(t, fixtureTMK, fixtureTDK)
	mak16 := desKey(t, fixtureTMK, fixtureMAK16)
	single := desKey(t, fixtureTMK, "0123456789ABCDEF")
	for name, c := range map[string]struct {
		block KeyBlock
		len   int
		want  string // "" where no source states it.
	}{
		"001, single length":   {KeyBlock{PIK: single, MAK: mak8}, 24, ""},
		"003, single MAK":      {KeyBlock{PIK: pik, MAK: mak8}, 40, fixture60[:80]},
		"003, double MAK":      {KeyBlock{PIK: pik, MAK: mak16}, 40, ""},
		"004, with TDK":        {KeyBlock{PIK: pik, MAK: mak8, TDK: tdk}, 60, fixture60},
		"004, double MAK, TDK": {KeyBlock{PIK: pik, MAK: mak16, TDK: tdk}, 60, ""},
		"SM4": {KeyBlock{PIK: sm4Key(t, fixtureTMK, fixturePIK), MAK: sm4Key(t, fixtureTMK, fixtureMAK16),
			TDK: sm4Key(t, fixtureTMK, fixtureTDK)}, 60, fixtureSM4},
	} {
		b, err := c.block.Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(b) != c.len || (c.want != "" && hexUpper(b) != c.want) {
			t.Errorf("%s: the block differs", name)
		}
		back, err := ParseKeyBlock(b)
		if err != nil || !sameKey(back.PIK, c.block.PIK) || !sameKey(back.MAK, c.block.MAK) || !sameKey(back.TDK, c.block.TDK) {
			t.Errorf("%s: does not come back as it was (%v)", name, err)
		}
	}
}

// TestKeyBlockKAT1 is KAT-1 of facts/unionpay.md §4: deciphered keys and check values are stated by the source.
func TestKeyBlockKAT1(t *testing.T) {
	t.Parallel()
	raw := unhex(t, "6701EAD6A9AD51E51AA406E2C27FCFA98D0A74B8B651F9E9BACE9AE10000000000000000AB7153CA")
	b, err := ParseKeyBlock(raw)
	if err != nil {
		t.Fatal(err)
	}
	if b.MAK.Cipher.Len() != 8 || !b.TDK.Cipher.IsZero() {
		t.Fatal("the MAK of this block is single-length, and there is no TDK")
	}
	tmk := desCipher(t, unhex(t, "CA5D92598DCA48CE8A4C76361A9269E9"))
	for name, c := range map[string]struct {
		key  WorkKey
		want string
	}{
		"PIK": {b.PIK, "807A23AD32B36D457AE91FDF927570EA"},
		"MAK": {b.MAK, "5BB5C72CD00B7338"},
	} {
		out := make([]byte, c.key.Cipher.Len())
		for i := 0; i < len(out); i += 8 {
			tmk.Decrypt(out[i:], c.key.Cipher.Reveal()[i:])
		}
		check := make([]byte, 8)
		desCipher(t, out).Encrypt(check, check)
		if hexUpper(out) != c.want || [4]byte(check) != c.key.KCV {
			t.Errorf("%s is not the stated key", name)
		}
	}
	again, err := b.Encode()
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("encoding gives another block (%v)", err)
	}
}

func TestKeyBlockRefusals(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 23, 25, 39, 41, 56, 57, 59, 61, 84} {
		if _, err := ParseKeyBlock(make([]byte, n)); !errors.Is(err, ErrKeyBlock) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	key := func(n int) WorkKey { return WorkKey{Cipher: secret.New(bytes.Repeat([]byte{7}, n))} }
	halfZero := WorkKey{Cipher: secret.New(append(bytes.Repeat([]byte{7}, 8), make([]byte, 8)...))}
	for name, b := range map[string]KeyBlock{
		"nothing": {}, "no MAK": {PIK: key(16)}, "PIK of 24": {PIK: key(24), MAK: key(8)}, "mixed": {PIK: key(8), MAK: key(16)},
		"single with TDK": {PIK: key(8), MAK: key(8), TDK: key(16)}, "TDK of 8": {PIK: key(16), MAK: key(8), TDK: key(8)},
		"MAK that reads as single": {PIK: key(16), MAK: halfZero},
	} {
		if _, err := b.Encode(); !errors.Is(err, ErrKeyBlock) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyBlockPrintsNoCryptogram(t *testing.T) {
	t.Parallel()
	b, err := ParseKeyBlock(unhex(t, fixture60))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%x", "%s"} {
		if out := strings.ToUpper(fmt.Sprintf(verb, b)); strings.Contains(out, "A85CEB8C") || strings.Contains(out, "168 92 235") {
			t.Errorf("%s prints a cryptogram", verb)
		}
	}
}

// TestKeyBlockShort: the 57 bytes are the 60 without the last byte of each check value, and nothing else has that form.
func TestKeyBlockShort(t *testing.T) {
	t.Parallel()
	raw := unhex(t, "D052DCC19D0EEB7A565720640D8B7E29DD60708C22B82094DDD42E327E69DDE2A866F1D076428347BD7B374D8DF254E7B90C3BF03C814F7E855C3763")
	b, err := ParseKeyBlock(raw)
	if err != nil {
		t.Fatal(err)
	}
	short, err := b.EncodeShort()
	if want := append(append(append([]byte(nil), raw[:19]...), raw[20:39]...), raw[40:59]...); err != nil || !bytes.Equal(short, want) {
		t.Errorf("%d bytes, %v", len(short), err)
	}
	b.TDK = WorkKey{}
	if _, err := b.EncodeShort(); !errors.Is(err, ErrKeyBlock) {
		t.Errorf("two keys: %v", err)
	}
}
