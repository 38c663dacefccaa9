package unionpay

import (
	"errors"
	"fmt"

	"github.com/keyward/keyward/keys/secret"
)

// Sizes of the enciphered part of a track in bytes.
const (
	TrackBlock3DES = 8
	TrackBlockSM4  = 16
)

// ErrShortTrack says that a track is too short to hold the enciphered block: the terminal did not encipher it as the dialect has it, and
// the transaction is answered 30.
var ErrShortTrack = errors.New("track is too short for its enciphered part")

// trackRange is where the enciphered digits are: the last block of the packed track, its final byte not counted (facts/unionpay.md §5:
// digits [len-18, len-2) for an even, [len-17, len-1) for an odd number of digits with 3DES).
func trackRange(length, size int) (from, to int, err error) {
	if size != TrackBlock3DES && size != TrackBlockSM4 {
		return 0, 0, fmt.Errorf("enciphered part of a track has %d bytes, want %d (3DES) or %d (SM4)", size, TrackBlock3DES, TrackBlockSM4)
	}
	to = length - 2 + length%2
	from = to - 2*size
	if from < 0 {
		return 0, 0, fmt.Errorf("%w: %d digits, want at least %d", ErrShortTrack, length, 2*size+2-length%2)
	}
	return from, to, nil
}

// TrackBlock takes the enciphered bytes out of field 35 or 36 as decoded: 8 under a 3DES key, 16 under SM4.
func TrackBlock(t secret.Track, size int) (secret.Bytes, error) {
	s := t.Reveal()
	from, to, err := trackRange(len(s), size)
	if err != nil {
		return secret.Bytes{}, err
	}
	packed, err := track.Append(make([]byte, 0, size), string(s[from:to]))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("enciphered part of a track: %w", err)
	}
	return secret.New(packed), nil
}

// PutTrackBlock puts the deciphered bytes (as many as were taken out) in their place. Whether the result is a track, digits and one
// separator, is for the caller to check: under a wrong key it is not.
func PutTrackBlock(t secret.Track, block secret.Bytes) (secret.Track, error) {
	s := t.Reveal()
	from, to, err := trackRange(len(s), block.Len())
	if err != nil {
		return secret.Track{}, err
	}
	chars, _, err := track.Value(string(block.Reveal()), to-from)
	if err != nil {
		return secret.Track{}, fmt.Errorf("deciphered part of a track: %w", err)
	}
	return secret.NewString(string(s[:from]) + chars + string(s[to:])), nil
}
