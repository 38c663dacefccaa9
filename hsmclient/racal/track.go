package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// tracker is a command that deciphers: fields in front · key type 3H · key · fields behind · length 4H · data, both binary, in ECB →
// length 4H · data.
type tracker struct{ cmd, front, behind string }

const (
	trackFieldsLen = 160
	maxTrackData   = 256 // track 3 has at most 107 digits; three times that is no track
)

// DecryptTrack implements driver.DataDecrypter with M2 or S4.
func (d *Driver) DecryptTrack(ctx context.Context, on driver.Conversation, key keys.Wrapped, cipher []byte) (secret.Track, error) {
	by := d.set.track
	if err := d.checkKey(by.cmd, "the track key", key, keys.TrackKey); err != nil {
		return secret.Track{}, err
	}
	if n, block := len(cipher), blockBytes(key.Algorithm); n == 0 || n%block != 0 || n > maxTrackData {
		return secret.Track{}, refusal(by.cmd, "the track data has %d bytes, want whole blocks of %d, at most %d bytes", n, block, maxTrackData)
	}
	request := make([]byte, 0, trackFieldsLen+len(cipher))
	request = append(request, by.cmd...)
	request = append(request, by.front...)
	request = append(request, d.form.typeOf(key.Usage)...)
	request = append(request, key.Cryptogram...)
	request = append(request, by.behind...)
	request = append4H(request, len(cipher))
	answer, err := on.Exchange(ctx, append(request, cipher...))
	if err != nil {
		return secret.Track{}, err
	}
	defer clear(answer)
	return parseTrack(by.cmd, answer, len(cipher))
}

func parseTrack(cmd string, answer []byte, n int) (secret.Track, error) {
	f, err := open(cmd, answer)
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
