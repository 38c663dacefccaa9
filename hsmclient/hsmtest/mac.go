package hsmtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/cbcmac"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/keys"
)

func mac(t *testing.T, ctx context.Context, f Fixture) {
	tdesClear, desClear, sm4Clear := oddParity(unhex(t, otherKey)), oddParity(unhex(t, otherKey[:16])), unhex(t, otherKey)
	cmac := func(algorithm keys.Algorithm, key []byte) func([]byte) []byte {
		block := blockOf(t, algorithm, key)
		return func(data []byte) []byte { return cbcmac.NewCMAC(block, block.BlockSize()).MAC(data) }
	}
	for _, c := range []struct {
		name  string
		key   keys.Wrapped
		alg   command.MACAlgorithm
		want  func([]byte) []byte
		sizes []int
	}{
		{"single DES", f.wrapMAC(t, keys.MACKey, keys.DES, command.MACAlg1, otherKey[:16]), command.MACAlg1, func(d []byte) []byte { return cbcMAC(t, keys.DES, desClear, d) }, []int{4, 8}},
		{"TDES on every block", f.wrapMAC(t, keys.MACKey, keys.TDES, command.MACAlg1, otherKey), command.MACAlg1, func(d []byte) []byte { return cbcMAC(t, keys.TDES, tdesClear, d) }, []int{4, 8}},
		{"zone, retail", f.wrapMAC(t, keys.ZoneMAC, keys.TDES, command.MACAlg3, otherKey), command.MACAlg3, func(d []byte) []byte { return retailMAC(t, tdesClear, d) }, []int{4, 8}},
		{"seal, CMAC", f.wrapMAC(t, keys.Seal, keys.TDES, command.MACCMAC, otherKey), command.MACCMAC, cmac(keys.TDES, tdesClear), []int{4, 8}},
		{"SM4", f.wrapMAC(t, keys.MACKey, keys.SM4, command.MACSM4CBC, otherKey), command.MACSM4CBC, func(d []byte) []byte { return cbcMAC(t, keys.SM4, sm4Clear, d) }, []int{4, 8, 16}},
		{"SM4 CMAC", f.wrapMAC(t, keys.Seal, keys.SM4, command.MACCMAC, otherKey), command.MACCMAC, cmac(keys.SM4, sm4Clear), []int{4, 8, 16}},
	} {
		for _, n := range []int{1, 7, 8, 16, 17, 300, 2000} {
			data := bytes.Repeat([]byte{0x00, 0x19, 0xFF, 'a', '%', ';', 0x15}, n/7+1)[:n] // also the bytes that end fields elsewhere
			in := command.MACInput{Key: c.key, Algorithm: c.alg, Data: data}
			want := c.want(data)
			got, err := f.Client.MAC(ctx, in)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s over %d bytes: wrong MAC of %d bytes (%v)", c.name, n, len(got), err)
			}
			for _, size := range c.sizes {
				if ok, err := f.Client.VerifyMAC(ctx, in, want[:size]); err != nil || !ok {
					t.Errorf("%s over %d bytes: %d right bytes give %v, %v", c.name, n, size, ok, err)
				}
				wrong := bytes.Clone(want[:size])
				wrong[size-1] ^= 1
				if ok, err := f.Client.VerifyMAC(ctx, in, wrong); err != nil || ok {
					t.Errorf("%s over %d bytes: %d wrong bytes give %v, %v", c.name, n, size, ok, err)
				}
			}
		}
	}
}

// macUnionPay: the host XORs, the device does the rest over the text of the XOR (facts/unionpay.md §4).
func macUnionPay(t *testing.T, ctx context.Context, f Fixture) {
	// facts/unionpay.md §3 and §4: KAT-3, and the computed fixtures over the same message.
	const xor8, xor16 = "8669012722F217C6", "3253052522C033D4B43A040200322412"
	const mak16 = "A1A2A3A4A5A6A7A8B1B2B3B4B5B6B7B8"
	check := func(what string, key keys.Wrapped, alg command.MACAlgorithm, text, want string) {
		t.Helper()
		got, err := f.Client.MAC(ctx, command.MACInput{Key: key, Algorithm: alg, Data: []byte(text)})
		if shown := strings.ToUpper(hex.EncodeToString(got)); err != nil || !strings.HasPrefix(shown, want) {
			t.Errorf("%s: got %s (%v), want it to begin with %s", what, shown, err, want)
		}
	}
	check("KAT-3", f.wrapMAC(t, keys.MACKey, keys.DES, command.MACAlg1, "DAB36167E6DFB5EF"), command.MACAlg1, xor8, "E5805ECBE0AFADDD")
	check("MAK of 8 bytes", f.wrapMAC(t, keys.MACKey, keys.DES, command.MACAlg1, mak16[:16]), command.MACAlg1, xor8, "C9CD62BA")
	check("MAK of 16 bytes", f.wrapMAC(t, keys.MACKey, keys.TDES, command.MACAlg1, mak16), command.MACAlg1, xor8, "D45CBF74")
	check("SM4 MAK", f.wrapMAC(t, keys.MACKey, keys.SM4, command.MACSM4CBC, mak16), command.MACSM4CBC, xor16, "4EC953E9")
	for _, v := range vectors.Load(t, "mac.json").Group(t, "unionpay_sm4_ecb_mac") {
		if vectors.Str(v.In, "mak") == "" {
			continue // shows the XOR only, which is the host's part
		}
		key := f.wrapMAC(t, keys.MACKey, keys.SM4, command.MACSM4CBC, vectors.Str(v.In, "mak"))
		check(v.ID, key, command.MACSM4CBC, string(vectors.Hex(t, v.Out, "expanded")), vectors.Str(v.Out, "t"))
	}
}

func refuseMAC(t *testing.T, ctx context.Context, f Fixture) {
	mak := f.wrapMAC(t, keys.MACKey, keys.TDES, command.MACAlg1, otherKey)
	pik, _ := f.made(t, ctx, keys.PINKey, keys.TDES)
	for what, in := range map[string]command.MACInput{
		"a PIN key":            {Key: pik, Algorithm: command.MACAlg1, Data: []byte("x")},
		"nothing":              {Key: mak, Algorithm: command.MACAlg1},
		"an algorithm of SM4":  {Key: mak, Algorithm: command.MACSM4CBC, Data: []byte("x")},
		"an unknown algorithm": {Key: mak, Algorithm: 99, Data: []byte("x")},
		"too much":             {Key: mak, Algorithm: command.MACAlg1, Data: make([]byte, 60000)},
		"a false label":        {Key: as(pik, keys.MACKey), Algorithm: command.MACAlg1, Data: []byte("x")}, // found out by the device: parity
	} {
		_, err := f.Client.MAC(ctx, in)
		wantClass(t, "MAC of "+what, err, command.CallerFault)
		_, err = f.Client.VerifyMAC(ctx, in, make([]byte, 8))
		wantClass(t, "verify with "+what, err, command.CallerFault)
	}
	for _, n := range []int{0, 3, 5, 9} {
		_, err := f.Client.VerifyMAC(ctx, command.MACInput{Key: mak, Algorithm: command.MACAlg1, Data: []byte("x")}, make([]byte, n))
		wantClass(t, "verify a MAC of odd length", err, command.CallerFault)
	}
}
