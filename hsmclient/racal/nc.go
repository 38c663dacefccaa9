package racal

import (
	"context"
	"strings"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

const (
	cmdNC = "NC" // no fields → LMK check value 16H · firmware 9A, Chinese boxes: version 24A · serial 12A (facts/hsm.md §1.2, §1.7.3)

	lmkCheckDigits = 16
	firmwareLen    = 9
	firmwareLenCN  = 24
	serialLenCN    = 12
)

// Diagnose implements driver.Driver with NC.
func (d *Driver) Diagnose(ctx context.Context, on driver.Conversation) (command.Diagnosis, error) {
	answer, err := on.Exchange(ctx, []byte(cmdNC))
	if err != nil {
		return command.Diagnosis{}, err
	}
	return parseND(answer)
}

func parseND(answer []byte) (command.Diagnosis, error) {
	f, err := open(cmdNC, answer)
	if err != nil {
		return command.Diagnosis{}, err
	}
	check := f.hexText(lmkCheckDigits, "the LMK check value")
	n := firmwareLen
	if len(f.rest) == firmwareLenCN+serialLenCN {
		n = firmwareLenCN
	}
	firmware := f.take(n, "the firmware number")
	for _, c := range firmware {
		if c < ' ' || c > '~' {
			f.fail("the firmware number is not printable")
		}
	}
	var serial []byte
	if n == firmwareLenCN {
		serial = f.take(serialLenCN, "the serial number")
	}
	for _, c := range serial {
		if c < ' ' || c > '~' {
			f.fail("the serial number is not printable")
		}
	}
	if err := f.end(); err != nil {
		return command.Diagnosis{}, err
	}
	return command.Diagnosis{LMKCheck: keys.KCV(check), Firmware: string(firmware), Serial: strings.TrimSpace(string(serial))}, nil
}
