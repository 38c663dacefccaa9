package hsm

import "bytes"

// headerBytes is the length of the header that is echoed (facts/hsm.md §1.1: a setting of the device, factory value 4).
const headerBytes = 4

// request is one command at work. A command's function reads its fields, calls finish, then opens keys and appends the
// answer to out.
type request struct {
	fields
	lmk      *lmk
	rule     rule
	settings *settings
	out      []byte
	trailer  []byte
}

// settings are what a device was configured with and what commands need to know.
type settings struct {
	legacyTypes  bool
	ignoreParity bool
	sockets      int
	firmware     string
}

// command is one host command. Each lives in a file with its name.
type command struct {
	run   func(*request) errorCode
	typed bool // A port's list may name a key type for it.
}

// commands is filled here and nowhere else; docs/hsm-sim.md §5 lists the same.
var commands = map[string]command{
	"A0": {runA0, true}, "A6": {runA6, true}, "A8": {runA8, true}, "B2": {runB2, false}, "BU": {runBU, true},
	"CA": {runCA, false}, "CC": {runCC, false}, "FA": {runFA, false}, "GC": {runGC, false}, "HA": {runHA, false},
	"HC": {runHC, false}, "KD": {runKD, false}, "KR": {runKR, true}, "M0": {runM0, true}, "M2": {runM2, true},
	"M4": {runM4, true}, "M6": {runM6, true}, "M8": {runM8, true}, "N0": {runN0, false}, "NC": {runNC, false},
	"NO": {runNO, false}, "S0": {runS0, true}, "S3": {runS3, true}, "S4": {runS4, true}, "S5": {runS5, true},
	"SH": {runSH, false}, "TI": {runTI, false},
}

// execute answers one message: header, command and fields without the length. The message has at least six bytes. It
// returns the answer without the length, the command name for the history and the error code.
func execute(msg []byte, allow allowList, l *lmk, set *settings, forced map[string]string) (answer []byte, name string, code errorCode) {
	head, name := msg[:headerBytes], string(msg[headerBytes:headerBytes+2])
	out := make([]byte, 0, 128)
	out = append(out, head...)
	out = append(out, name[0], name[1]+1)
	cmd, known := commands[name]
	rule, allowed := allow[name]
	q := &request{fields: fields{buf: msg[headerBytes+2:]}, lmk: l, rule: rule, settings: set}
	switch {
	case len(msg) > maxMessage:
		code = codeInput
	case !known || !allowed:
		code = codeDisabled
	case forced[name] != "":
		code = errorCode(forced[name])
	default:
		code = cmd.run(q)
	}
	out = append(out, code...)
	if code == codeOK || code == codeAdvice {
		out = append(out, q.out...)
	} else {
		q.trailer = guessTrailer(q.buf)
	}
	return append(out, q.trailer...), knownName(name), code
}

// guessTrailer finds the trailer of a message whose fields could not be read to their end.
func guessTrailer(body []byte) []byte {
	tail := body[max(0, len(body)-maxTrailer-1):]
	if i := bytes.IndexByte(tail, trailerMark); i >= 0 {
		return tail[i:]
	}
	return nil
}

// finish ends the reading of fields. A command stops when it returns anything but codeOK.
func (q *request) finish() errorCode {
	q.trailer = q.end()
	if q.code != "" {
		return q.code
	}
	return codeOK
}

// permit checks a key type against what the command may use and against the port's list.
func (q *request) permit(keyType string, allowed typeSet) errorCode {
	if !allowed[keyType] || !q.rule.permits(keyType) {
		return codeForbidden
	}
	return codeOK
}

// open deciphers a key under the LMK and checks its parity; bad is the code for a wrong one.
func (q *request) open(keyType string, raw rawKey, bad errorCode) (*key, errorCode) {
	k, code := q.lmk.open(keyType, raw)
	if code != codeOK {
		return nil, code
	}
	if q.settings.ignoreParity {
		return k, codeOK
	}
	if allZero(k.clear) || k.alg == algDES && !rawTypes[keyType] && !oddParity(k.clear) {
		return nil, bad
	}
	return k, codeOK
}

// tpkType is the key type of terminal PIN keys.
func (q *request) tpkType() string {
	if q.settings.legacyTypes {
		return typePVK
	}
	return typeTPK
}

// tmkType is the key type of terminal master keys.
func (q *request) tmkType() string {
	if q.settings.legacyTypes {
		return typePVK
	}
	return typeTMK
}

// putUnderLMK appends a key under the LMK to the answer.
func (q *request) putUnderLMK(keyType string, letter byte, k *key) errorCode {
	sealed, code := q.lmk.seal(keyType, letter, k)
	if code == codeOK {
		q.out = appendKey(q.out, letter, sealed)
	}
	return code
}

// putUnder appends a key under a ZMK or TMK to the answer.
func (q *request) putUnder(kek *key, letter byte, k *key) errorCode {
	sealed, code := exportUnder(kek, letter, k)
	if code == codeOK {
		q.out = appendKey(q.out, letter, sealed)
	}
	return code
}
