package hsmtest

import (
	"bytes"
	"testing"
)

// TestAESKeyWrap: RFC 3394 §4.1, §4.3 and §4.6.
func TestAESKeyWrap(t *testing.T) {
	t.Parallel()
	const kek = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	for _, c := range []struct{ kek, key, want string }{
		{kek[:32], "00112233445566778899AABBCCDDEEFF", "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"},
		{kek, "00112233445566778899AABBCCDDEEFF", "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7"},
		{kek, rfc3394Key, rfc3394Wrapped},
	} {
		if got := AESKeyWrap(t, unhex(t, c.kek), unhex(t, c.key)); !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("got %X, want %s", got, c.want)
		}
	}
}
