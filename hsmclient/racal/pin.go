package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// Fields that CA, CC and TI share.
const (
	maxPINLength = "12" // the longest PIN that any format holds (facts/hsm.md §1.4)
	minPINDigits = 4
	maxPINDigits = 12
	panField     = 12 // the rightmost twelve digits without the check digit
)

// pinFormatCodes are the device's names of the formats, and the algorithm whose block each fills (docs/hsm-sim.md §5.4).
var pinFormatCodes = map[command.PINFormat]struct {
	code string
	alg  keys.Algorithm
}{
	command.PINISO0:    {"01", keys.TDES},
	command.PINSM4Wide: {"91", keys.SM4}, command.PINSM4Padded: {"93", keys.SM4},
}

// TranslatePIN implements driver.PINTranslator: CA from a terminal's PIN key, CC from a zone PIN key, TI where SM4 is on
// either side.
func (d *Driver) TranslatePIN(ctx context.Context, on driver.Conversation, req command.PINTranslation) (secret.PINBlock, error) {
	cmd := d.pinCommand(req)
	if err := d.checkPIN(cmd, req); err != nil {
		return secret.PINBlock{}, err
	}
	var request []byte
	if cmd == cmdTI {
		request = requestTI(req)
	} else {
		request = requestCA(cmd, req)
	}
	answer, err := on.Exchange(ctx, request)
	clear(request)
	if err != nil {
		return secret.PINBlock{}, err
	}
	return parsePIN(cmd, answer, req.To.Algorithm, pinFormatCodes[req.ToFormat].code)
}

func (d *Driver) pinCommand(req command.PINTranslation) string {
	if req.From.Algorithm == keys.SM4 || req.To.Algorithm == keys.SM4 {
		return cmdTI
	}
	if cmd, ok := d.set.pin[req.From.Usage]; ok {
		return cmd
	}
	return cmdCA // it will refuse the key
}

func (d *Driver) checkPIN(cmd string, req command.PINTranslation) error {
	if err := d.checkKey(cmd, "the source PIN key", req.From, keys.PINKey, keys.ZonePIN); err != nil {
		return err
	}
	if err := d.checkKey(cmd, "the destination PIN key", req.To, keys.ZonePIN); err != nil {
		return err
	}
	for _, side := range []struct {
		what   string
		format command.PINFormat
		alg    keys.Algorithm
	}{{"source", req.FromFormat, req.From.Algorithm}, {"destination", req.ToFormat, req.To.Algorithm}} {
		known, ok := pinFormatCodes[side.format]
		switch {
		case !ok:
			return refusal(cmd, "%s PIN block format %q is not known", side.what, string(side.format))
		case known.alg != side.alg && (known.alg == keys.SM4 || side.alg == keys.SM4):
			return refusal(cmd, "%s PIN block format %q does not fit a %s key", side.what, string(side.format), side.alg)
		}
	}
	if want := blockBytes(req.From.Algorithm); req.Block.Len() != want {
		return refusal(cmd, "the PIN block has %d bytes, want %d", req.Block.Len(), want)
	}
	if req.PAN.IsZero() {
		return refusal(cmd, "a card number is needed to translate a PIN block")
	}
	return nil
}

// appendPAN writes the rightmost twelve digits without the check digit, zeros on the left where there are fewer (ISO 9564-1).
func appendPAN(dst []byte, pan secret.PAN) []byte {
	digits := pan.Reveal()
	digits = digits[:len(digits)-1]
	for range panField - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits[max(0, len(digits)-panField):]...)
}

// parsePIN reads what CA, CC and TI answer: PIN length 2N · block · destination format 2N. The PIN's length is checked and
// forgotten: nobody outside the device needs it.
func parsePIN(cmd string, answer []byte, to keys.Algorithm, format string) (secret.PINBlock, error) {
	f, err := open(cmd, answer)
	if err != nil {
		return secret.PINBlock{}, err
	}
	length := f.number(2, 10, "the PIN length")
	if f.err == nil && (length < minPINDigits || length > maxPINDigits) {
		f.fail("the PIN length is out of range")
	}
	block := f.hex(blockBytes(to), "the PIN block")
	if got := f.take(2, "the PIN block format"); got != nil && string(got) != format {
		f.fail("the PIN block format is not the one asked for")
	}
	if err := f.end(); err != nil {
		return secret.PINBlock{}, err
	}
	return secret.New(block), nil
}
