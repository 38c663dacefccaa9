package racal

import (
	"context"
	"crypto/subtle"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// MAC lengths in bytes.
const (
	desMAC  = 8
	halfMAC = 4
)

// macer are the commands for MACs under keys of an algorithm.
type macer struct {
	compute, verify string // no verify: the comparison is here
	request         func(*Driver, command.MACInput) []byte
	size            int
}

var (
	macM6 = macer{cmdM6, cmdM8, (*Driver).requestM6, desMAC}
	macS0 = macer{cmdS0, "", (*Driver).requestS0, 0}
)

// of is how long the whole MAC is.
func (m macer) of(key keys.Wrapped) int {
	if m.size > 0 {
		return m.size
	}
	return blockBytes(key.Algorithm)
}

// macer finds the commands for a key; those of DES keys refuse what is no key at all.
func (d *Driver) macer(key keys.Wrapped) macer {
	if m, ok := d.set.mac[key.Algorithm]; ok {
		return m
	}
	return d.set.mac[keys.TDES]
}

// MAC implements driver.MACer with M6 or S0.
func (d *Driver) MAC(ctx context.Context, on driver.Conversation, in command.MACInput) ([]byte, error) {
	by := d.macer(in.Key)
	if err := d.checkMAC(by.compute, in); err != nil {
		return nil, err
	}
	answer, err := on.Exchange(ctx, by.request(d, in))
	if err != nil {
		return nil, err
	}
	return parseMAC(by.compute, answer, by.of(in.Key))
}

// VerifyMAC implements driver.MACer with M8. Where the device has no command for it, it computes (S0) and the comparison is here, in
// constant time.
func (d *Driver) VerifyMAC(ctx context.Context, on driver.Conversation, in command.MACInput, expect []byte) (bool, error) {
	by := d.macer(in.Key)
	n, whole := len(expect), by.of(in.Key)
	if n < halfMAC || n > whole || whole == desMAC && n != halfMAC && n != desMAC {
		return false, refusal(by.compute, "the MAC to verify has %d bytes, want %d to %d (DES: %d or %d)", n, halfMAC, whole, halfMAC, desMAC)
	}
	if by.verify == "" {
		mac, err := d.MAC(ctx, on, in)
		if err != nil {
			return false, err
		}
		return subtle.ConstantTimeCompare(mac[:n], expect) == 1, nil
	}
	if err := d.checkMAC(by.verify, in); err != nil {
		return false, err
	}
	answer, err := on.Exchange(ctx, d.requestM8(in, expect))
	if err != nil {
		return false, err
	}
	return parseM9(answer)
}

func (d *Driver) checkMAC(cmd string, in command.MACInput) error {
	if err := d.checkKey(cmd, "the MAC key", in.Key, keys.MACKey, keys.ZoneMAC, keys.Seal); err != nil {
		return err
	}
	switch n := len(in.Data); {
	case n == 0 || n > payshield.data: // more than any device takes
		return refusal(cmd, "the data to MAC has %d bytes, want 1 to %d", n, d.set.data)
	case n > d.set.data:
		return lacks(cmd, "the data to MAC has %d bytes, this device takes %d at most", n, d.set.data)
	}
	if !fitsAlgorithm(in.Algorithm, in.Key.Algorithm) {
		return refusal(cmd, "MAC algorithm %d does not fit a %s key", in.Algorithm, in.Key.Algorithm)
	}
	if !d.form.fitsMAC(in.Key, in.Algorithm) {
		return refusal(cmd, "the key block of the MAC key is for another MAC algorithm than %d", in.Algorithm)
	}
	return nil
}

func fitsAlgorithm(mac command.MACAlgorithm, key keys.Algorithm) bool {
	switch mac {
	case command.MACCMAC:
		return true
	case command.MACSM4CBC:
		return key == keys.SM4
	case command.MACAlg1:
		return key != keys.SM4
	case command.MACAlg3:
		return key == keys.TDES
	}
	return false
}

// parseMAC reads what M6 and S0 answer: the MAC as hex.
func parseMAC(cmd string, answer []byte, size int) ([]byte, error) {
	f, err := open(cmd, answer)
	if err != nil {
		return nil, err
	}
	mac := f.hex(size, "the MAC")
	if err := f.end(); err != nil {
		return nil, err
	}
	return mac, nil
}
