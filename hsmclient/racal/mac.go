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
	sm4MAC  = 16
	halfMAC = 4
)

// MAC implements driver.MACer: M6 for DES and TDES keys, S0 for SM4.
func (d *Driver) MAC(ctx context.Context, on driver.Conversation, in command.MACInput) ([]byte, error) {
	cmd, size := cmdM6, desMAC
	if in.Key.Algorithm == keys.SM4 {
		cmd, size = cmdS0, sm4MAC
	}
	if err := checkMAC(cmd, in); err != nil {
		return nil, err
	}
	var request []byte
	if cmd == cmdS0 {
		request = d.requestS0(in)
	} else {
		request = d.requestM6(in)
	}
	answer, err := on.Exchange(ctx, request)
	if err != nil {
		return nil, err
	}
	return parseMAC(cmd, answer, size)
}

// VerifyMAC implements driver.MACer: M8 for DES and TDES keys. For SM4 the device computes (S0) and the comparison is here,
// in constant time.
func (d *Driver) VerifyMAC(ctx context.Context, on driver.Conversation, in command.MACInput, expect []byte) (bool, error) {
	if in.Key.Algorithm == keys.SM4 {
		if len(expect) < halfMAC || len(expect) > sm4MAC {
			return false, refusal(cmdS0, "the MAC to verify has %d bytes, want %d to %d", len(expect), halfMAC, sm4MAC)
		}
		mac, err := d.MAC(ctx, on, in)
		if err != nil {
			return false, err
		}
		return subtle.ConstantTimeCompare(mac[:len(expect)], expect) == 1, nil
	}
	if len(expect) != halfMAC && len(expect) != desMAC {
		return false, refusal(cmdM8, "the MAC to verify has %d bytes, want %d or %d", len(expect), halfMAC, desMAC)
	}
	if err := checkMAC(cmdM8, in); err != nil {
		return false, err
	}
	answer, err := on.Exchange(ctx, d.requestM8(in, expect))
	if err != nil {
		return false, err
	}
	return parseM9(answer)
}

func checkMAC(cmd string, in command.MACInput) error {
	if err := checkKey(cmd, "the MAC key", in.Key, keys.MACKey, keys.ZoneMAC, keys.Seal); err != nil {
		return err
	}
	if n := len(in.Data); n == 0 || n > maxData {
		return refusal(cmd, "the data to MAC has %d bytes, want 1 to %d", n, maxData)
	}
	sm4 := in.Key.Algorithm == keys.SM4
	switch in.Algorithm {
	case command.MACCMAC:
		return nil
	case command.MACSM4CBC:
		if sm4 {
			return nil
		}
	case command.MACAlg1:
		if !sm4 {
			return nil
		}
	case command.MACAlg3:
		if in.Key.Algorithm == keys.TDES {
			return nil
		}
	}
	return refusal(cmd, "MAC algorithm %d does not fit a %s key", in.Algorithm, in.Key.Algorithm)
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
