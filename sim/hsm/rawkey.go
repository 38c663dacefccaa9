package hsm

import (
	"strconv"
)

// Letters of key fields that are no schemes.
const (
	letterBlock  = 'S' // A key block under the LMK.
	letterStored = 'K' // A place in the user storage.
	// letterTR31 marks a TR-31 block under a ZMK inside this package; on the line it is an R like that of SM4 keys, and the
	// algorithm of the ZMK tells which is meant.
	letterTR31 = 'r'
)

// rawKey is a key field as it was sent: enciphered.
type rawKey struct {
	letter byte
	sealed []byte // The bytes behind a scheme letter; of a block its characters.
	as     string // The key type it was stored with, when it came from the user storage.
}

// isBlock says whether the key is in a key block of any kind, whose header tells the algorithm.
func (r rawKey) isBlock() bool { return r.letter == letterBlock || r.letter == letterTR31 }

// alg is the cipher family that the field names; 0 when there is none.
func (r rawKey) alg() algorithm {
	if r.isBlock() {
		return algorithms[r.sealed[7]]
	}
	return schemes[r.letter].alg
}

// blockBytes is the block size of the key's cipher.
func (r rawKey) blockBytes() int {
	if a := r.alg(); a == algSM4 || a == algAES {
		return 16
	}
	return 8
}

// key reads a key field.
func (f *fields) key() rawKey { return f.keyOrBare(8) }

// keyOrBare reads a key field in which a key without a letter has the given number of bytes.
func (f *fields) keyOrBare(bare int) rawKey {
	letter := f.peek()
	switch {
	case letter == 0:
		f.fail(codeInput)
		return rawKey{}
	case isDigit(letter) || isHexLetter(letter):
		letter = map[int]byte{8: 'Z', 16: 'X', 24: 'Y'}[bare]
	case letter == letterStored:
		f.pos++
		return f.stored()
	case letter == letterBlock:
		f.pos++
		return f.block(letterBlock, blockVersion, minBlockChars, maxBlockChars)
	default:
		f.pos++
	}
	s, ok := schemes[letter]
	if !ok {
		f.fail(codeScheme)
		return rawKey{}
	}
	return rawKey{letter: letter, sealed: f.hex(s.size)}
}

// stored reads an index of the user storage and returns the key that is there.
func (f *fields) stored() rawKey {
	index := f.number(4, 10, 1, 9999)
	if f.code != "" {
		return rawKey{}
	}
	if f.storage != nil {
		if k, ok := f.storage.get(index); ok {
			return k.raw
		}
	}
	f.fail(codeStorage)
	return rawKey{}
}

// block reads a key block and checks its form. After an error the key is empty.
func (f *fields) block(letter, version byte, low, high int) rawKey {
	if f.code == "" && len(f.buf)-f.pos >= 5 {
		n, err := strconv.Atoi(string(f.buf[f.pos+1 : f.pos+5]))
		if err != nil || n < low || n > high {
			f.fail(codeBlockFormat)
			return rawKey{}
		}
		block := f.take(n)
		if f.code != "" {
			return rawKey{}
		}
		if code := checkBlock(block, version); code != codeOK {
			f.fail(code)
			return rawKey{}
		}
		return rawKey{letter: letter, sealed: block}
	}
	f.fail(codeInput)
	return rawKey{}
}

// keyUnder reads a key that a ZMK protects: a TR-31 block when the ZMK is a 3DES or AES key in a key block, else a scheme letter
// and hex.
func (f *fields) keyUnder(outer rawKey) rawKey {
	if outer.letter != letterBlock || outer.alg() == algSM4 || f.peek() != 'R' {
		return f.key()
	}
	f.pos++
	version := byte(tr31AES)
	if outer.alg() == algDES {
		version = tr31TDES
	}
	return f.block(letterTR31, version, headerChars+2*16+2*8, maxTR31Chars)
}
