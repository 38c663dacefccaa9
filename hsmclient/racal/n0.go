package racal

import (
	"bytes"
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/driver"
)

const (
	cmdN0 = "N0" // length 3N → random bytes, binary (facts/hsm.md §1.2)

	maxRandom = 256 // command.Randomizer; the field would allow 999
)

// Random implements driver.Randomizer with N0.
func (d *Driver) Random(ctx context.Context, on driver.Conversation, n int) ([]byte, error) {
	if n < 1 || n > maxRandom {
		return nil, refusal(cmdN0, "%d random bytes were asked for, want 1 to %d", n, maxRandom)
	}
	answer, err := on.Exchange(ctx, fmt.Appendf(nil, cmdN0+"%03d", n))
	if err != nil {
		return nil, err
	}
	return parseN1(answer, n)
}

func parseN1(answer []byte, n int) ([]byte, error) {
	f, err := open(cmdN0, answer)
	if err != nil {
		return nil, err
	}
	random := f.take(n, "the random value")
	if err := f.end(); err != nil {
		return nil, err
	}
	return bytes.Clone(random), nil
}
