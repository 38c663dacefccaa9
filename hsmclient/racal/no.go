package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/driver"
)

const (
	cmdNO = "NO" // mode 2N → I/O buffer 1N · net 1N · sockets 2N or 4N · firmware 9A · reserved (facts/hsm.md §1.2)

	noStatus = "00"
)

func probeNO(ctx context.Context, _ *Driver, on driver.Conversation) error {
	answer, err := on.Exchange(ctx, []byte(cmdNO+noStatus))
	if err != nil {
		return err
	}
	f, err := open(cmdNO, answer)
	if err != nil {
		return err
	}
	f.number(1, 10, "the size of the buffer") // what follows differs between versions of the firmware
	return f.err
}
