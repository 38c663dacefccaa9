package hsm

import "fmt"

// EncryptUnderLMK is the simulated key ceremony: it returns a clear key under the device's variant LMK as a key field
// (docs/hsm-sim.md §2). keyType is three characters such as "011", scheme one of Z U X T Y R. It errs on an unknown type
// or scheme, a wrong length, and a DES key without odd parity that the device would refuse later.
func (d *Device) EncryptUnderLMK(keyType, scheme string, clear []byte) (string, error) {
	if _, known := placeOf(keyType); !known {
		return "", fmt.Errorf("hsm simulator: unknown key type %q", keyType)
	}
	s, known := schemes[first(scheme)]
	if !known || len(scheme) != 1 || s.size != len(clear) {
		return "", fmt.Errorf("hsm simulator: scheme %q does not fit a key of %d bytes: use Z 8, U or X 16, T or Y 24, R 16 (SM4)", scheme, len(clear))
	}
	if !d.cfg.IgnoreParity && (allZero(clear) || s.alg == algDES && !rawTypes[keyType] && !oddParity(clear)) {
		return "", fmt.Errorf("hsm simulator: the key for type %s is all zero or has not odd parity, so commands would answer 10: use another key or correct its parity bits", keyType)
	}
	sealed, code := d.base.variant.seal(keyType, scheme[0], newKey(s.alg, clear))
	if code != codeOK {
		return "", fmt.Errorf("hsm simulator: sealing the key failed with code %s", code)
	}
	return string(appendKey(nil, scheme[0], sealed)), nil
}

// EncryptInKeyBlock is the key ceremony for the key-block LMK: it returns a clear key as a key field "S…". The attributes are written as
// behind the "#" of a command, for example "72T2B00N00" (docs/hsm-sim.md §9.3). It errs on attributes that no command could use, on
// a length that is not theirs, and on a key that the device would refuse later.
func (d *Device) EncryptInKeyBlock(attributes string, clear []byte) (string, error) {
	if d.base.block == nil {
		return "", fmt.Errorf("hsm simulator: the set %s has no key-block LMK", setSJJ1310)
	}
	a, code := parseAttributes(attributes)
	if code != codeOK {
		return "", fmt.Errorf("hsm simulator: attributes %q are refused with code %s: docs/hsm-sim.md §9.2 lists what goes together", attributes, code)
	}
	if len(clear) != a.size {
		return "", fmt.Errorf("hsm simulator: attributes %q are for %d key bytes, not for %d", attributes, a.size, len(clear))
	}
	alg := algorithms[a.algorithm]
	if !d.cfg.IgnoreParity && (allZero(clear) || alg == algDES && !usages[a.usage].raw && !oddParity(clear)) {
		return "", fmt.Errorf("hsm simulator: the key for usage %s is all zero or has not odd parity, so commands would answer 10: use another key or correct its parity bits", a.usage)
	}
	field, code := d.base.block.seal(a, newKey(alg, clear))
	if code != codeOK {
		return "", fmt.Errorf("hsm simulator: sealing the key failed with code %s", code)
	}
	return string(field), nil
}
