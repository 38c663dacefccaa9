package hsmtest

import (
	"bytes"
	"context"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

func decryptTrack(t *testing.T, ctx context.Context, f Fixture) {
	for _, algorithm := range []keys.Algorithm{keys.TDES, keys.SM4} {
		key, clear := f.made(t, ctx, keys.TrackKey, algorithm)
		block := 8
		if algorithm == keys.SM4 {
			block = 16
		}
		for _, blocks := range []int{1, 2, 5} {
			track := bytes.Repeat([]byte{0x25, 0x12, 0x10, 0x19}, blocks*block/4)
			got, err := f.Client.DecryptTrack(ctx, key, encrypt(t, algorithm, clear, track))
			if err != nil || !bytes.Equal(got.Reveal(), track) {
				t.Errorf("%s, %d blocks: another track came out (%v)", algorithm, blocks, err)
			}
		}
		for _, n := range []int{0, 1, block + 1, 16 * 1024} {
			_, err := f.Client.DecryptTrack(ctx, key, make([]byte, n))
			wantClass(t, "track data of a wrong length", err, command.CallerFault)
		}
		for _, usage := range []keys.Usage{keys.PINKey, keys.MACKey} {
			other, _ := f.made(t, ctx, usage, algorithm)
			_, err := f.Client.DecryptTrack(ctx, other, make([]byte, block))
			wantClass(t, "track data under a "+usage.String(), err, command.CallerFault)
			if algorithm == keys.TDES { // an SM4 key has no parity by which a false label could be found out
				if _, err := f.Client.DecryptTrack(ctx, as(other, keys.TrackKey), make([]byte, block)); err == nil {
					t.Errorf("a %s served as a track key", usage)
				}
			}
		}
	}
}
