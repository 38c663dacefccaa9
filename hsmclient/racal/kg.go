package racal

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/driver"
)

const (
	// cmdKG tells what is kept in a place: index 4N → type 3H · scheme 1A · KCV 16H · label length 2N · label · … (facts/hsm.md §1.7.3; order
	// assumed in docs/hsm-sim.md §9.6). Code 12 says that the place is empty.
	cmdKG = "KG"

	codeEmpty   = "12"
	indexDigits = 4
	lastIndex   = 9999
)

// labelAt gives the label of the key in a place; taken is false for an empty one.
func labelAt(ctx context.Context, on driver.Conversation, index int) (label string, taken bool, err error) {
	answer, err := on.Exchange(ctx, fmt.Appendf(nil, cmdKG+"%0*d", indexDigits, index))
	if err != nil {
		return "", false, err
	}
	label, err = parseKH(answer)
	if hasCode(err, codeEmpty) {
		return "", false, nil
	}
	return label, err == nil, err
}

func parseKH(answer []byte) (string, error) {
	f, err := open(cmdKG, answer)
	if err != nil {
		return "", err
	}
	f.take(3, "the key type")
	f.take(1, "the scheme")
	f.hexText(kcvDigits, "the check value")
	label := string(f.take(f.number(2, 10, "the length of the label"), "the label"))
	if f.err != nil { // what follows differs between devices
		return "", f.err
	}
	return label, nil
}
