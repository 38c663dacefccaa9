package racal

import (
	"context"
	"strings"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// cmdNC has no fields → LMK check value 16H · firmware 9A; Chinese boxes: version 24A · serial number 12A (facts/hsm.md §1.2, §1.7.3).
const cmdNC = "NC"

// ncLayout is what follows the check value.
type ncLayout struct{ firmware, serial int }

// Diagnose implements driver.Driver with NC, and JK where that tells the serial number.
func (d *Driver) Diagnose(ctx context.Context, on driver.Conversation) (command.Diagnosis, error) {
	diagnosis, err := d.probeNC(ctx, on)
	if err != nil || !d.set.serial {
		return diagnosis, err
	}
	diagnosis.Serial, err = serialNumber(ctx, on)
	return diagnosis, err
}

func (d *Driver) probeNC(ctx context.Context, on driver.Conversation) (command.Diagnosis, error) {
	answer, err := on.Exchange(ctx, []byte(cmdNC))
	if err != nil {
		return command.Diagnosis{}, err
	}
	return parseND(answer, d.set.nc)
}

func parseND(answer []byte, layout ncLayout) (command.Diagnosis, error) {
	f, err := open(cmdNC, answer)
	if err != nil {
		return command.Diagnosis{}, err
	}
	check := f.hexText(kcvDigits, "the LMK check value")
	firmware, serial := f.text(layout.firmware, "the firmware number"), f.text(layout.serial, "the serial number")
	if err := f.end(); err != nil {
		return command.Diagnosis{}, err
	}
	return command.Diagnosis{LMKCheck: keys.KCV(check), Firmware: strings.TrimSpace(firmware), Serial: strings.TrimSpace(serial)}, nil
}
