package hsm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
)

const (
	blockVersion    = '1' // Under an AES LMK.
	headerChars     = 16  // Header of a key block.
	minBlockChars   = headerChars + 2*32 + 2*16
	maxBlockChars   = headerChars + 2*48 + 2*16
	maxTR31Chars    = 256 // Of a block under a ZMK: longer than any of a symmetric key without optional blocks.
	blockLMKID      = "01"
	variantLMKID    = "00"
	attributeChars  = 10 // Behind the "#".
	noOptionalBlock = "00"

	// testBlockLMK is the public test value (facts/hsm.md §2.1).
	testBlockLMK = "9B71333A13F9FAE72F9D0E2DAB4AD6784718012F9244033F3F26A2DE0C8AA11A"
)

// attributes are what a key block says about its key (docs/hsm-sim.md §9.2).
type attributes struct {
	usage     string
	algorithm byte   // D, T, A, 4.
	size      int    // Key bytes; 0 when only a header has been read.
	mode      byte   //
	version   string // Two digits.
	export    byte   // N, E, S.
}

// algorithmCodes are the two characters behind "#" that name an algorithm and a length.
var algorithmCodes = map[string]struct {
	letter byte
	size   int
}{"D1": {'D', 8}, "T2": {'T', 16}, "T3": {'T', 24}, "A1": {'A', 16}, "A2": {'A', 24}, "A3": {'A', 32}, "41": {'4', 16}}

// algorithms maps the header's letter to the cipher family.
var algorithms = map[byte]algorithm{'D': algDES, 'T': algDES, 'A': algAES, '4': algSM4}

// parseAttributes reads what stands behind a "#" and refuses combinations that no command could use.
func parseAttributes(text string) (attributes, errorCode) {
	if len(text) != attributeChars {
		return attributes{}, codeInput
	}
	kind, known := algorithmCodes[text[2:4]]
	a := attributes{usage: text[:2], algorithm: kind.letter, size: kind.size, mode: text[4], version: text[5:7], export: text[7]}
	use, named := usages[a.usage]
	switch {
	case !named || use.generic:
		return a, codeUsage
	case !known:
		return a, codeAlgorithm
	}
	if text[8:] != noOptionalBlock {
		return a, codeOptional
	}
	return a, a.check()
}

// check says whether usage, algorithm, mode, version and exportability belong together.
func (a attributes) check() errorCode {
	use, named := usages[a.usage]
	switch {
	case !named:
		return codeUsage
	case !strings.Contains(use.algorithms, string(a.algorithm)):
		return codeAlgorithm
	case !strings.Contains(use.modes, string(a.mode)):
		return codeMode
	case !isDigit(a.version[0]) || !isDigit(a.version[1]):
		return codeVersion
	case !strings.ContainsRune("NES", rune(a.export)) || use.private && a.export != 'N':
		return codeExport
	}
	return codeOK
}

// header writes the 16 characters of a header.
func (a attributes) header(version byte, chars int, tail string) string {
	return fmt.Sprintf("%c%04d%s%c%c%s%c%s%s", version, chars, a.usage, a.algorithm, a.mode, a.version, a.export, noOptionalBlock, tail)
}

// attributesOf reads a header whose form has been checked.
func attributesOf(block []byte) attributes {
	return attributes{usage: string(block[5:7]), algorithm: block[7], mode: block[8], version: string(block[9:11]), export: block[11]}
}

// checkBlock checks the form of a block: its first byte the version, its length field its length, no optional blocks, and hex
// behind the header.
func checkBlock(block []byte, version byte) errorCode {
	if len(block) < headerChars || block[0] != version || algorithms[block[7]] == 0 {
		return codeBlockFormat
	}
	if string(block[12:14]) != noOptionalBlock {
		return codeOptional
	}
	for _, c := range block[headerChars:] {
		if !isDigit(c) && !isHexLetter(c) {
			return codeBlockFormat
		}
	}
	return codeOK
}

// blockLMK is a key-block LMK with a cache of the keys opened under it.
type blockLMK struct {
	binding binding
	check   string // What NC answers.
	test    bool   // The public test value.

	mu     sync.RWMutex
	opened map[string]*key // Bounded by maxCachedKeys.
}

// newBlockLMK returns the public test LMK for an empty seed, else one made from the seed (docs/hsm-sim.md §9.1).
func newBlockLMK(seed string) *blockLMK {
	sum := sha256.Sum256([]byte("keyblock:" + seed))
	clear := sum[:]
	if seed == "" {
		clear, _ = hex.DecodeString(testBlockLMK) // A constant that tests read.
	}
	return &blockLMK{binding: newBinding(tr31AES, clear), check: newKey(algAES, clear).checkValue(), test: seed == "", opened: map[string]*key{}}
}

// open checks and deciphers a block whose form has been checked. It does not judge usage or parity.
func (l *blockLMK) open(block []byte) (*key, errorCode) {
	l.mu.RLock()
	k := l.opened[string(block)]
	l.mu.RUnlock()
	if k != nil {
		return k, codeOK
	}
	if string(block[14:headerChars]) != blockLMKID {
		return nil, codeBlockLMK
	}
	k, code := openBlock(l.binding, block)
	if code != codeOK {
		return nil, code
	}
	l.mu.Lock()
	if len(l.opened) >= maxCachedKeys {
		clear(l.opened)
	}
	l.opened[string(block)] = k
	l.mu.Unlock()
	return k, codeOK
}

// openBlock authenticates a block and makes the key with its attributes.
func openBlock(b binding, block []byte) (*key, errorCode) {
	clear, ok := b.open(block, headerChars)
	if !ok {
		return nil, codeAuthenticity
	}
	a := attributesOf(block)
	a.size = len(clear)
	if !sizeFits(a.algorithm, a.size) {
		return nil, codeKeyLength
	}
	k := newKey(algorithms[a.algorithm], clear)
	k.attributes = a
	return k, codeOK
}

// sizeFits says whether an algorithm letter allows a key of so many bytes.
func sizeFits(letter byte, size int) bool {
	for _, kind := range algorithmCodes {
		if kind.letter == letter && kind.size == size {
			return true
		}
	}
	return false
}

// seal makes the key field of a key: "S" and the block.
func (l *blockLMK) seal(a attributes, k *key) ([]byte, errorCode) {
	if algorithms[a.algorithm] != k.alg {
		return nil, codeAlgorithm
	}
	if !sizeFits(a.algorithm, len(k.clear)) || a.size != len(k.clear) {
		return nil, codeKeyLength
	}
	return append([]byte{'S'}, sealBlock(l.binding, blockVersion, a, blockLMKID, k)...), codeOK
}

// sealBlock makes a block under any protection key.
func sealBlock(b binding, version byte, a attributes, tail string, k *key) []byte {
	padding := b.blockPadding(len(k.clear))
	chars := headerChars + 2*(2+len(k.clear)+len(padding)) + 2*b.mac.BlockSize()
	return b.seal(a.header(version, chars, tail), k.clear, padding)
}
