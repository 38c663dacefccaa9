package hsm

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// Faults are the settings of a device that can be changed while it runs (docs/hsm-sim.md §6). The zero value is a healthy
// device.
type Faults struct {
	LatencyMS         int               `json:"latency_ms"`          // Added to every answer, milliseconds.
	JitterMS          int               `json:"jitter_ms"`           // A random part of it is added too, milliseconds.
	CommandsPerSecond int               `json:"commands_per_second"` // Of the whole device; 0 = no limit.
	MaxConnections    int               `json:"max_connections"`     // Further clients are refused; 0 = as configured.
	SlowAcceptMS      int               `json:"slow_accept_ms"`      // A new connection is served that much later, milliseconds.
	Refuse            bool              `json:"refuse"`              // Listeners and connections are closed.
	Reset             bool              `json:"reset"`               // Whatever the device closes, it closes with a reset.
	BlackHole         bool              `json:"black_hole"`          // Accepts, reads, never answers.
	Stall             bool              `json:"stall"`               // Stops reading; goes on where it was when cleared.
	AcceptThenClose   bool              `json:"accept_then_close"`   // New connections are closed at once.
	CloseAfter        int               `json:"close_after"`         // A connection is closed after so many answers; 0 = never.
	DropEvery         int               `json:"drop_every"`          // Every nth answer is not sent; 0 = none.
	AnswerPercent     int               `json:"answer_percent"`      // A random share of answers is sent; 0 = all.
	AnswerOnly        []string          `json:"answer_only"`         // Only these commands are answered; empty = all.
	DropCommands      []string          `json:"drop_commands"`       // These commands are not answered.
	Shuffle           bool              `json:"shuffle"`             // Answers are likely to leave in another order.
	DuplicateEvery    int               `json:"duplicate_every"`     // Every nth answer is sent twice; 0 = none.
	CutEvery          int               `json:"cut_every"`           // Of every nth answer only half is sent; 0 = none.
	CutThen           string            `json:"cut_then"`            // What follows a cut answer: "close" (also "") or "stall".
	WrongHeaderEvery  int               `json:"wrong_header_every"`  // Every nth answer has a changed header; 0 = none.
	SwapHeaderEvery   int               `json:"swap_header_every"`   // Every nth answer and that of another request have each other's header.
	GarbleEvery       int               `json:"garble_every"`        // Every nth answer is garbage behind the header; 0 = none.
	WrongResultEvery  int               `json:"wrong_result_every"`  // Every nth result of work with keys is well formed and wrong.
	ErrorCodes        map[string]string `json:"error_codes"`         // Command to the error code it answers.
	LMKSeed           string            `json:"lmk_seed"`            // Not empty: works with other LMKs made from it.
	Hold              []string          `json:"hold"`                // Commands whose answers are withheld.
}

const (
	maxLatencyMS = 10 * 60 * 1000 // Longer than any time-out in the system; guards against a slip of the unit.
	// shuffleSpan is how long a shuffled answer may wait: long enough to be overtaken on a busy machine, short enough for tests.
	shuffleSpan = 4 * time.Millisecond

	cutClose = "close"
	cutStall = "stall"
)

// clone copies what is shared by reference, so that nobody changes the faults of a running device by accident. Empty lists become
// nil, so that equal settings are equal.
func (f Faults) clone() Faults {
	f.ErrorCodes = maps.Clone(f.ErrorCodes)
	if len(f.ErrorCodes) == 0 {
		f.ErrorCodes = nil
	}
	for _, list := range []*[]string{&f.Hold, &f.AnswerOnly, &f.DropCommands} {
		*list = append([]string(nil), *list...)
	}
	return f
}

// check refuses settings that make no sense, so that a typing mistake does not look like a healthy device.
func (f Faults) check() error {
	for name, v := range map[string]int{
		"latency_ms": f.LatencyMS, "jitter_ms": f.JitterMS, "commands_per_second": f.CommandsPerSecond, "max_connections": f.MaxConnections,
		"slow_accept_ms": f.SlowAcceptMS, "close_after": f.CloseAfter, "drop_every": f.DropEvery, "answer_percent": f.AnswerPercent,
		"duplicate_every": f.DuplicateEvery, "cut_every": f.CutEvery, "wrong_header_every": f.WrongHeaderEvery,
		"swap_header_every": f.SwapHeaderEvery, "garble_every": f.GarbleEvery, "wrong_result_every": f.WrongResultEvery,
	} {
		if v < 0 {
			return fmt.Errorf("hsm simulator: fault %s is negative: use 0 to switch it off", name)
		}
	}
	if max(f.LatencyMS, f.JitterMS, f.SlowAcceptMS) > maxLatencyMS {
		return fmt.Errorf("hsm simulator: latency, jitter or slow accept is over %d ms", maxLatencyMS)
	}
	if f.AnswerPercent > 99 {
		return fmt.Errorf("hsm simulator: answer_percent is %d: use 1 to 99, or 0 for all", f.AnswerPercent)
	}
	if f.CutThen != "" && f.CutThen != cutClose && f.CutThen != cutStall {
		return fmt.Errorf("hsm simulator: cut_then is %q: use close or stall", f.CutThen)
	}
	for name, code := range f.ErrorCodes {
		if _, known := commands[name]; !known || len(code) != 2 {
			return fmt.Errorf("hsm simulator: error_codes entry %q: unknown command, or the code has not two characters", name)
		}
	}
	for what, list := range map[string][]string{"hold": f.Hold, "answer_only": f.AnswerOnly, "drop_commands": f.DropCommands} {
		for _, name := range list {
			if _, known := commands[name]; !known {
				return fmt.Errorf("hsm simulator: %s entry %q: unknown command", what, name)
			}
		}
	}
	return nil
}

// condition is one consistent view of the faults with what belongs to it; connections read it without a lock.
type condition struct {
	Faults
	lmks     *lmkSet
	replaced chan struct{}             // Closed when another condition holds.
	answers  [countFaults]atomic.Int64 // Answers counted per fault.
}

// inline says whether a command can be answered without waiting, on the goroutine that reads.
func (c *condition) inline(name string) bool {
	return c.LatencyMS == 0 && c.JitterMS == 0 && c.CommandsPerSecond == 0 && !c.Shuffle && c.SwapHeaderEvery == 0 && !c.holds(name)
}

// holds says whether the answers of a command are withheld.
func (c *condition) holds(name string) bool { return slices.Contains(c.Hold, name) }

// delay is how long one answer waits for latency, jitter and shuffling.
func (c *condition) delay() time.Duration {
	d := time.Duration(c.LatencyMS) * time.Millisecond
	if c.JitterMS > 0 {
		d += time.Duration(rand.Int64N(int64(c.JitterMS) * int64(time.Millisecond)))
	}
	if c.Shuffle {
		d += time.Duration(rand.Int64N(int64(shuffleSpan)))
	}
	return d
}

// Which of the answer counters of a condition counts for which fault.
const (
	countDrop = iota
	countHeader
	countGarble
	countDuplicate
	countCut
	countSwap
	countWrong
	countFaults
)

// every reports whether this answer is an nth one.
func (c *condition) every(counter, n int) bool {
	return n > 0 && c.answers[counter].Add(1)%int64(n) == 0
}

// silent says whether the answer of a command is not sent.
func (c *condition) silent(name string) bool {
	return c.every(countDrop, c.DropEvery) || c.AnswerPercent > 0 && rand.IntN(100) >= c.AnswerPercent ||
		len(c.AnswerOnly) > 0 && !slices.Contains(c.AnswerOnly, name) || slices.Contains(c.DropCommands, name)
}

// spoil damages an answer as the faults say; header is the length of its header. nil means that it is not sent.
func (c *condition) spoil(r reply, header int) []byte {
	answer := r.answer
	if c.silent(r.command) {
		return nil
	}
	if !keyless[r.command] && c.every(countWrong, c.WrongResultEvery) {
		wrongResult(answer[header : len(answer)-r.trailer])
	}
	if header > 0 && c.every(countHeader, c.WrongHeaderEvery) {
		answer[0] ^= 0x80 // No client uses headers outside ASCII, so this is never the header of another request.
	}
	if c.every(countGarble, c.GarbleEvery) {
		for i := header; i < len(answer); i++ {
			answer[i] ^= 0xFF
		}
	}
	return answer
}

// keyless are the commands that do no work with keys: a device that computes wrongly still answers them well.
var keyless = map[string]bool{
	"B2": true, "NC": true, "NO": true, "N0": true, "CR": true, "JK": true, "J2": true, "J4": true, "KG": true, "??": true,
}

// wrongResult changes an answer, without header and trailer, so that only its meaning is wrong. The verdict of a verification is turned;
// in a result the first hex digit from the middle on changes, which lies in the key, the block or the MAC and in no letter or length. In
// binary data without such a byte it is a bit of the middle.
func wrongResult(answer []byte) {
	code, result := answer[2:4], answer[4:]
	switch {
	case string(answer[:2]) == "M9" && string(code) == string(codeOK):
		copy(code, codeAdvice)
	case string(answer[:2]) == "M9" && string(code) == string(codeAdvice):
		copy(code, codeOK)
	case string(code) > string(codeAdvice):
		return
	}
	if len(result) == 0 {
		return
	}
	for i := len(result) / 2; i < len(result); i++ {
		if c := result[i]; isDigit(c) || isHexLetter(c) {
			result[i] = "123456789ABCDEF0"[hexValue(c)]
			return
		}
	}
	result[len(result)/2] ^= 1
}

func hexValue(c byte) int {
	if isDigit(c) {
		return int(c - '0')
	}
	return int(c|0x20-'a') + 10
}
