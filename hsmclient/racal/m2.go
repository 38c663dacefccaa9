package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

const (
	// cmdM2 deciphers: mode 2N · input format 1N · output format 1N · key type 3H · key · length 4H · data → length 4H ·
	// data (facts/hsm.md §1.5).
	cmdM2 = "M2"

	m2ECBBinary  = "0000" // ECB, binary in, binary out
	m2FieldsLen  = 64
	maxTrackData = 256 // track 3 has at most 107 digits; three times that is no track
)

// DecryptTrack implements driver.DataDecrypter with M2.
func (d *Driver) DecryptTrack(ctx context.Context, on driver.Conversation, key keys.Wrapped, cipher []byte) (secret.Track, error) {
	if err := checkKey(cmdM2, "the track key", key, keys.TrackKey); err != nil {
		return secret.Track{}, err
	}
	if n, block := len(cipher), blockBytes(key.Algorithm); n == 0 || n%block != 0 || n > maxTrackData {
		return secret.Track{}, refusal(cmdM2, "the track data has %d bytes, want whole blocks of %d, at most %d bytes", n, block, maxTrackData)
	}
	request := make([]byte, 0, m2FieldsLen+len(cipher))
	request = append(request, cmdM2+m2ECBBinary...)
	request = append(request, d.typeOf(key.Usage)...)
	request = append(request, key.Cryptogram...)
	request = append4H(request, len(cipher))
	answer, err := on.Exchange(ctx, append(request, cipher...))
	if err != nil {
		return secret.Track{}, err
	}
	defer clear(answer)
	return parseM3(answer, len(cipher))
}

func parseM3(answer []byte, n int) (secret.Track, error) {
	f, err := open(cmdM2, answer)
	if err != nil {
		return secret.Track{}, err
	}
	if got := f.number(4, 16, "the data length"); f.err == nil && got != n {
		f.fail("the data length is %d, want %d", got, n)
	}
	track := f.take(n, "the data")
	if err := f.end(); err != nil {
		return secret.Track{}, err
	}
	return secret.New(track), nil
}
