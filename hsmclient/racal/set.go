package racal

import "github.com/keyward/keyward/keys"

// set is a set of host commands, as data: which command serves what. The forms of the commands are in their files.
type set struct {
	types  map[keys.Usage]string    // of keys under a variant LMK
	data   int                      // bytes of data in one command
	work   map[keys.Usage]string    // the command that makes a working key
	pin    map[keys.Usage]string    // the command that translates a PIN from a key of the usage; where SM4 is on either side it is TI
	mac    map[keys.Algorithm]macer // the commands of MACs by algorithm of the key
	track  tracker                  // deciphers track data
	random randomizer
	nc     ncLayout
	serial bool // JK tells the serial number
	stores bool // KR keeps keys in the device
}

// payshield is the set of the Racal/Thales family with a variant LMK (facts/hsm.md §1).
var payshield = set{
	types:  keyTypes,
	data:   16 * 1024, // of a buffer of 32K (facts/hsm.md §1.1); the length field of 4H would allow more
	work:   map[keys.Usage]string{keys.PINKey: cmdHC, keys.MACKey: cmdHA, keys.TrackKey: cmdA0},
	pin:    map[keys.Usage]string{keys.PINKey: cmdCA, keys.ZonePIN: cmdCC},
	mac:    map[keys.Algorithm]macer{keys.DES: macM6, keys.TDES: macM6, keys.SM4: macS0},
	track:  trackM2,
	random: randomN0,
	nc:     ncLayout{firmware: 9},
	serial: true,
}

// payshieldBlocks is the same with a key-block LMK: HA and HC are for variant LMKs only (docs/hsm-sim.md §9.4).
var payshieldBlocks = func() set {
	s := payshield
	s.work = map[keys.Usage]string{keys.PINKey: cmdA0, keys.MACKey: cmdA0, keys.TrackKey: cmdA0}
	return s
}()

// sjj1310 is the set of the Chinese boxes of that family (facts/hsm.md §1.7.3): the commands of their own where they have one, those
// of the Racal set that they follow elsewhere. Most of them know no 70D and 80D: legacy_types.
var sjj1310 = set{
	types:  chineseTypes,
	data:   6 * 1024, // messages have at most 128 bytes more
	work:   map[keys.Usage]string{keys.PINKey: cmdA0, keys.MACKey: cmdA0, keys.TrackKey: cmdA0},
	pin:    map[keys.Usage]string{keys.PINKey: cmdTI, keys.ZonePIN: cmdTI},
	mac:    map[keys.Algorithm]macer{keys.DES: macS0, keys.TDES: macS0, keys.SM4: macS0},
	track:  trackS4,
	random: randomCR,
	nc:     ncLayout{firmware: 24, serial: 12},
	stores: true,
}
