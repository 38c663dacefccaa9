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
	Refuse            bool              `json:"refuse"`              // Listeners and connections are closed.
	BlackHole         bool              `json:"black_hole"`          // Accepts, reads, never answers.
	AcceptThenClose   bool              `json:"accept_then_close"`   // New connections are closed at once.
	DropEvery         int               `json:"drop_every"`          // Every nth answer is not sent; 0 = none.
	Shuffle           bool              `json:"shuffle"`             // Answers are likely to leave in another order.
	WrongHeaderEvery  int               `json:"wrong_header_every"`  // Every nth answer has a changed header; 0 = none.
	GarbleEvery       int               `json:"garble_every"`        // Every nth answer is garbage behind the header; 0 = none.
	ErrorCodes        map[string]string `json:"error_codes"`         // Command to the error code it answers.
	LMKSeed           string            `json:"lmk_seed"`            // Not empty: works with another LMK made from it.
	Hold              []string          `json:"hold"`                // Commands whose answers are withheld.
}

const (
	maxLatencyMS = 10 * 60 * 1000 // Longer than any time-out in the system; guards against a slip of the unit.
	// shuffleSpan is how long a shuffled answer may wait: long enough to be overtaken on a busy machine, short enough for tests.
	shuffleSpan = 4 * time.Millisecond
)

// clone copies what is shared by reference, so that nobody changes the faults of a running device by accident.
func (f Faults) clone() Faults {
	f.ErrorCodes, f.Hold = maps.Clone(f.ErrorCodes), slices.Clone(f.Hold)
	return f
}

// check refuses settings that make no sense, so that a typing mistake does not look like a healthy device.
func (f Faults) check() error {
	for name, v := range map[string]int{
		"latency_ms": f.LatencyMS, "jitter_ms": f.JitterMS, "commands_per_second": f.CommandsPerSecond,
		"max_connections": f.MaxConnections, "drop_every": f.DropEvery, "wrong_header_every": f.WrongHeaderEvery, "garble_every": f.GarbleEvery,
	} {
		if v < 0 {
			return fmt.Errorf("hsm simulator: fault %s is negative: use 0 to switch it off", name)
		}
	}
	if f.LatencyMS > maxLatencyMS || f.JitterMS > maxLatencyMS {
		return fmt.Errorf("hsm simulator: latency or jitter is over %d ms", maxLatencyMS)
	}
	for name, code := range f.ErrorCodes {
		if _, known := commands[name]; !known || len(code) != 2 {
			return fmt.Errorf("hsm simulator: error_codes entry %q: unknown command, or the code has not two characters", name)
		}
	}
	for _, name := range f.Hold {
		if _, known := commands[name]; !known {
			return fmt.Errorf("hsm simulator: hold entry %q: unknown command", name)
		}
	}
	return nil
}

// condition is one consistent view of the faults with what belongs to it; connections read it without a lock.
type condition struct {
	Faults
	lmk     *lmk
	answers [3]atomic.Int64 // Answers counted for drop, wrong header, garble.
}

// inline says whether a command can be answered without waiting, on the goroutine that reads.
func (c *condition) inline(name string) bool {
	return c.LatencyMS == 0 && c.JitterMS == 0 && c.CommandsPerSecond == 0 && !c.Shuffle && !c.holds(name)
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
)

// every reports whether this answer is an nth one.
func (c *condition) every(counter, n int) bool {
	return n > 0 && c.answers[counter].Add(1)%int64(n) == 0
}

// spoil damages an answer as the faults say; nil means that it is not sent.
func (c *condition) spoil(answer []byte) []byte {
	if c.every(countDrop, c.DropEvery) {
		return nil
	}
	if c.every(countHeader, c.WrongHeaderEvery) {
		answer[0] ^= 0x80 // No client uses headers outside ASCII, so this is never the header of another request.
	}
	if c.every(countGarble, c.GarbleEvery) {
		for i := headerBytes; i < len(answer); i++ {
			answer[i] ^= 0xFF
		}
	}
	return answer
}
