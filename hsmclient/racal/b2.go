package racal

import (
	"bytes"
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/driver"
)

const (
	cmdB2 = "B2" // length 4H · data → data; some devices give nothing back (facts/hsm.md §1.2)

	echoText = "KEYWARD!"
)

func probeB2(ctx context.Context, _ *Driver, on driver.Conversation) error {
	answer, err := on.Exchange(ctx, fmt.Appendf(nil, cmdB2+"%04X"+echoText, len(echoText)))
	if err != nil {
		return err
	}
	f, err := open(cmdB2, answer)
	if err != nil {
		return err
	}
	if len(f.rest) > 0 && !bytes.Equal(f.take(len(echoText), "the echo"), []byte(echoText)) {
		f.fail("the echo is not what was sent")
	}
	return f.end()
}
