package unionpay

import (
	"crypto/cipher"
	"errors"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm4"

	"github.com/keyward/keyward/keys/secret"
)

// TestTrackFixtures deciphers the made-up tracks of facts/unionpay.md §4: take the block out, decipher, put it back.
func TestTrackFixtures(t *testing.T) {
	t.Parallel()
	des3 := desCipher(t, unhex(t, fixtureTDK))
	sm, err := sm4.NewCipher(unhex(t, fixtureTDK))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cipher            cipher.Block
		clear, enciphered string
	}{
		"37 digits, 3DES": {des3, "6222020000000000000D25121010000012345", "6222020000000000000D883F4D7A8A714B825"},
		"37 digits, SM4":  {sm, "6222020000000000000D25121010000012345", "62227E64B0464172A9E291338CC6590681A35"},
		"35 digits, 3DES": {des3, "622202000000000000D2512101000001234", "622202000000000000A18F9F02CA0280994"},
		"35 digits, SM4":  {sm, "622202000000000000D2512101000001234", "6246D047E50DEFED910D86EB5FA824D2A94"},
	} {
		// In a message the nibble D stands as =.
		in := secret.NewString(strings.ReplaceAll(c.enciphered, "D", "="))
		block, err := TrackBlock(in, c.cipher.BlockSize())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c.cipher.Decrypt(block.Reveal(), block.Reveal())
		out, err := PutTrackBlock(in, block)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := strings.ReplaceAll(c.clear, "D", "="); string(out.Reveal()) != want {
			t.Errorf("%s: the track comes out differently", name)
		}
	}
}

func TestTrackRange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ length, size, from, to int }{
		{37, 8, 20, 36}, {36, 8, 18, 34}, {17, 8, 0, 16}, {18, 8, 0, 16}, {104, 8, 86, 102},
		{37, 16, 4, 36}, {36, 16, 2, 34}, {33, 16, 0, 32}, {34, 16, 0, 32},
	} {
		from, to, err := trackRange(c.length, c.size)
		if err != nil || from != c.from || to != c.to {
			t.Errorf("%d digits, %d bytes: [%d,%d) %v", c.length, c.size, from, to, err)
		}
	}
	for _, c := range []struct{ length, size int }{{0, 8}, {1, 8}, {15, 8}, {16, 8}, {32, 16}, {31, 16}} {
		if _, _, err := trackRange(c.length, c.size); !errors.Is(err, ErrShortTrack) {
			t.Errorf("%d digits, %d bytes: %v", c.length, c.size, err)
		}
	}
	if _, err := TrackBlock(secret.NewString("6222020000000000000=30122010000012345"), 24); err == nil || errors.Is(err, ErrShortTrack) {
		t.Errorf("a block of 24 bytes: %v", err)
	}
	if _, err := PutTrackBlock(secret.NewString("123"), secret.New(make([]byte, 8))); !errors.Is(err, ErrShortTrack) {
		t.Errorf("put into a short track: %v", err)
	}
	if _, err := TrackBlock(secret.NewString("6222020000000000000=3012201000X012345"), 8); err == nil || strings.Contains(err.Error(), "X") {
		t.Errorf("a track with a letter: %v", err)
	}
}
