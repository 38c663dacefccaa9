package racal

import (
	"bytes"
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/driver"
)

// The commands that give random bytes, binary.
const (
	cmdN0 = "N0" // length 3N (facts/hsm.md §1.2)
	cmdCR = "CR" // length 4N, at most 2048: Chinese boxes (facts/hsm.md §1.7.3)

	maxRandom = 256 // command.Randomizer; the fields would allow more
)

// randomizer is one of them.
type randomizer struct {
	cmd    string
	digits int // of the length
}

var (
	randomN0 = randomizer{cmdN0, 3}
	randomCR = randomizer{cmdCR, 4}
)

// Random implements driver.Randomizer with N0 or CR.
func (d *Driver) Random(ctx context.Context, on driver.Conversation, n int) ([]byte, error) {
	r := d.set.random
	if n < 1 || n > maxRandom {
		return nil, refusal(r.cmd, "%d random bytes were asked for, want 1 to %d", n, maxRandom)
	}
	answer, err := on.Exchange(ctx, fmt.Appendf(nil, "%s%0*d", r.cmd, r.digits, n))
	if err != nil {
		return nil, err
	}
	return parseRandom(r.cmd, answer, n)
}

func parseRandom(cmd string, answer []byte, n int) ([]byte, error) {
	f, err := open(cmd, answer)
	if err != nil {
		return nil, err
	}
	random := f.take(n, "the random value")
	if err := f.end(); err != nil {
		return nil, err
	}
	return bytes.Clone(random), nil
}
