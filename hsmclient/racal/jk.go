package racal

import (
	"context"
	"errors"
	"strings"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

const (
	cmdJK = "JK" // no fields → serial 12A · date 6N · time 6N · states … (facts/hsm.md §1.2)

	jkSerial = 12
	jkClock  = 12
)

// serialNumber asks for the serial number; "" where the device does not tell it. JK is not on every device, and not on every port's list.
func serialNumber(ctx context.Context, on driver.Conversation) (string, error) {
	answer, err := on.Exchange(ctx, []byte(cmdJK))
	if err != nil {
		return "", err
	}
	serial, err := parseJL(answer)
	var e *command.Error
	if errors.As(err, &e) && e.Code != "" && e.Class != command.MemberFault {
		return "", nil
	}
	return serial, err
}

func probeJK(ctx context.Context, _ *Driver, on driver.Conversation) error {
	answer, err := on.Exchange(ctx, []byte(cmdJK))
	if err != nil {
		return err
	}
	_, err = parseJL(answer)
	return err
}

func parseJL(answer []byte) (string, error) {
	f, err := open(cmdJK, answer)
	if err != nil {
		return "", err
	}
	serial := f.text(jkSerial, "the serial number")
	f.take(jkClock, "date and time")
	if f.err != nil { // the states behind differ between versions of the firmware
		return "", f.err
	}
	return strings.TrimSpace(serial), nil
}
