package hsm

import "bytes"

// station is what the commands of one port work with.
type station struct {
	allow    allowList
	lmks     *lmkSet
	settings *settings
	storage  *storage
	stats    *stats
	forced   map[string]string // Command to the error code that it answers instead of working.
}

// request is one command at work. A command's function reads its fields, calls finish, then opens keys and appends the
// answer to out.
type request struct {
	fields
	station *station
	command command
	rule    rule
	out     []byte
	trailer []byte

	// The tails of a command, which finish reads (docs/hsm-sim.md §9.1).
	lmkID  string      // "" the default.
	attr   *attributes // nil: none.
	store  place
	blocks bool // The LMK that the command means is a key-block LMK.
}

// settings are what a device was configured with and what commands need to know.
type settings struct {
	legacyTypes  bool
	ignoreParity bool
	chinese      bool // The set sjj1310.
	sockets      int
	firmware     string
	serial       string
	defaultLMK   string
	header       int  // Bytes that are echoed.
	payloadOnly  bool // The length field does not count the header.
	maxMessage   int
	ratedCPS     int // What the load histogram takes as full load.
}

// command is one host command. Each lives in a file with its name.
type command struct {
	run         func(*request) errorCode
	typed       bool // A port's list may name a key type or usage for it.
	makes       bool // Takes attributes for a new key block.
	stores      bool // Takes the store suffix.
	variantOnly bool // Does not exist under a key-block LMK.
	set         string
}

// Sets of commands that only some devices have.
const (
	setPayShield = "payshield"
	setSJJ1310   = "sjj1310"
)

// commands is filled here and nowhere else; docs/hsm-sim.md §5 and §9 list the same.
var commands = map[string]command{
	"A0": {run: runA0, typed: true, makes: true}, "A6": {run: runA6, typed: true, makes: true}, "A8": {run: runA8, typed: true},
	"B2": {run: runB2}, "BU": {run: runBU, typed: true}, "BW": {run: runBW, typed: true, makes: true},
	"CA": {run: runCA}, "CC": {run: runCC}, "CR": {run: runCR, set: setSJJ1310},
	"FA": {run: runFA, variantOnly: true}, "GC": {run: runGC, variantOnly: true}, "HA": {run: runHA, variantOnly: true},
	"HC": {run: runHC, variantOnly: true}, "J2": {run: runJ2, set: setPayShield}, "J4": {run: runJ4, set: setPayShield},
	"JK": {run: runJK, set: setPayShield}, "KD": {run: runKD, makes: true, stores: true}, "KG": {run: runKG},
	"KR": {run: runKR, typed: true, makes: true, stores: true},
	"M0": {run: runM0, typed: true}, "M2": {run: runM2, typed: true}, "M4": {run: runM4, typed: true}, "M6": {run: runM6, typed: true},
	"M8": {run: runM8, typed: true}, "N0": {run: runN0}, "NC": {run: runNC}, "NO": {run: runNO}, "S0": {run: runS0, typed: true},
	"S3": {run: runS3, typed: true}, "S4": {run: runS4, typed: true}, "S5": {run: runS5, typed: true}, "SH": {run: runSH}, "TI": {run: runTI},
}

// in says whether a device of the set has the command.
func (c command) in(chinese bool) bool {
	return c.set == "" || (c.set == setSJJ1310) == chinese
}

// reply is the answer to one message, without the length.
type reply struct {
	answer  []byte
	trailer int    // Bytes of the trailer at the end of it, with its mark.
	command string // For the history.
	code    errorCode
}

// execute answers one message: header, command and fields without the length. The message has at least the header and two bytes.
func (s *station) execute(msg []byte) reply {
	start := s.settings.header
	head, name := msg[:start], string(msg[start:start+2])
	out := make([]byte, 0, 128)
	out = append(out, head...)
	out = append(out, name[0], name[1]+1)
	cmd, known := commands[name]
	rule, allowed := s.allow[name]
	q := &request{fields: fields{buf: msg[start+2:], storage: s.storage}, station: s, command: cmd, rule: rule}
	var code errorCode
	switch {
	case len(msg) > s.settings.maxMessage:
		code = codeInput
	case !known || !allowed || !cmd.in(s.settings.chinese):
		code = codeDisabled
	case s.forced[name] != "":
		code = errorCode(s.forced[name])
	default:
		code = cmd.run(q)
	}
	out = append(out, code...)
	if code == codeOK || code == codeAdvice {
		out = append(out, q.out...)
	} else {
		q.trailer = guessTrailer(q.buf)
	}
	return reply{answer: append(out, q.trailer...), trailer: len(q.trailer), command: knownName(name), code: code}
}

// guessTrailer finds the trailer of a message whose fields could not be read to their end.
func guessTrailer(body []byte) []byte {
	tail := body[max(0, len(body)-maxTrailer-1):]
	if i := bytes.IndexByte(tail, trailerMark); i >= 0 {
		return tail[i:]
	}
	return nil
}

// finish ends the reading of fields and finds the LMK. A command stops when it returns anything but codeOK.
func (q *request) finish() errorCode {
	q.tails()
	q.trailer = q.end()
	if q.code != "" {
		return q.code
	}
	if q.lmkID == "" {
		q.lmkID = q.station.settings.defaultLMK
	}
	switch {
	case q.lmkID == blockLMKID && q.station.lmks.block != nil:
		q.blocks = true
	case q.lmkID != variantLMKID:
		return codeLMK
	}
	if q.blocks && q.command.variantOnly {
		return codeLMKKind
	}
	if !q.blocks && q.attr != nil {
		return codeInput
	}
	return codeOK
}

// tails reads what may stand between the fields and the trailer, each once: attributes, store suffix, LMK id.
func (q *request) tails() {
	for {
		switch c := q.peek(); {
		case c == '%' && q.lmkID == "":
			q.pos++
			q.lmkID = string(q.digits(2, codeInput))
		case c == '#' && q.command.makes && q.attr == nil:
			q.pos++
			text := q.text(attributeChars)
			if q.code != "" {
				return
			}
			a, code := parseAttributes(text)
			if code != codeOK {
				q.fail(code)
			}
			q.attr = &a
		case c == letterStored && q.command.stores && q.store.index == 0:
			q.pos++
			q.store = q.storeSuffix()
		default:
			return
		}
	}
}
