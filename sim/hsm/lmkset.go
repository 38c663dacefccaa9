package hsm

import (
	"fmt"
	"math/bits"
	"strings"
)

// lmkSet is what a device holds: the variant LMK of id 00, the key-block LMK of id 01, and for each id the old LMK in the
// key-change storage.
type lmkSet struct {
	variant *lmk
	block   *blockLMK         // nil: the device has none.
	old     map[string]oldLMK // By the id that a key goes to.
}

// oldLMK is one LMK in the key-change storage: one of the two is set.
type oldLMK struct {
	variant *lmk
	block   *blockLMK
}

// Sources of an old LMK (Config.OldLMKs).
const (
	oldTestSet    = "test-old"  // The published old test set.
	oldSeedPrefix = "seed:"     // A variant LMK made from the text behind it; no text: the public test LMK.
	oldBlkPrefix  = "keyblock:" // A key-block LMK made from the text behind it; no text: the public test LMK.
	noOldLMK      = "none"
)

// newLMKSet makes the LMKs of a device. It errs on an unknown id or source of an old LMK.
func newLMKSet(variantSeed, blockSeed string, withBlock bool, old map[string]string) (*lmkSet, error) {
	set := &lmkSet{variant: newLMK(variantSeed), old: map[string]oldLMK{}}
	sources := map[string]string{}
	if withBlock {
		set.block = newBlockLMK(blockSeed)
		sources[blockLMKID] = variantLMKID // A device that gets a key-block LMK moves its keys there.
	}
	for id, source := range old {
		if id != variantLMKID && (id != blockLMKID || !withBlock) {
			return nil, fmt.Errorf("hsm simulator: old LMK for id %q: the device has no LMK of this id: use 00 or 01", id)
		}
		sources[id] = source
	}
	for id, source := range sources {
		o, err := set.oldFrom(source)
		if err != nil {
			return nil, fmt.Errorf("hsm simulator: old LMK for id %s: %w", id, err)
		}
		if source != noOldLMK {
			set.old[id] = o
		}
	}
	return set, nil
}

func (s *lmkSet) oldFrom(source string) (oldLMK, error) {
	switch {
	case source == noOldLMK:
		return oldLMK{}, nil
	case source == variantLMKID:
		return oldLMK{variant: s.variant}, nil
	case source == blockLMKID && s.block != nil:
		return oldLMK{block: s.block}, nil
	case source == oldTestSet:
		return oldLMK{variant: newOldTestLMK()}, nil
	case strings.HasPrefix(source, oldSeedPrefix):
		return oldLMK{variant: newLMK(strings.TrimPrefix(source, oldSeedPrefix))}, nil
	case strings.HasPrefix(source, oldBlkPrefix):
		return oldLMK{block: newBlockLMK(strings.TrimPrefix(source, oldBlkPrefix))}, nil
	}
	return oldLMK{}, fmt.Errorf("unknown source %q: use none, 00, 01, test-old, seed:TEXT or keyblock:TEXT", source)
}

// newOldTestLMK makes the published old test set (thales_lmk.json, group old_test_lmk). It differs from the present test set
// in the last byte of the left halves, where the low four bits are set and the parity is odd again, and in pair 00-01.
// The eight pairs that are not published follow the same rule.
func newOldTestLMK() *lmk {
	l := newLMK("")
	for i := range l.pairs {
		b := l.pairs[i][7] | 0x0F
		if bits.OnesCount8(b)%2 == 0 {
			b ^= 1
		}
		l.pairs[i][7] = b
	}
	copy(l.pairs[0], []byte{0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1F})
	return l
}
