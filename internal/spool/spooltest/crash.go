package spooltest

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Mode is what a power cut does to changes that were not fsynced.
type Mode int

// What a disk may have done by the time the power fails. Names that were not fsynced follow the same mode: all lost, all
// kept, or each by chance.
const (
	// Drop loses every change since the last fsync.
	Drop Mode = iota
	// Keep has written everything.
	Keep
	// Tear has written the changes up to a random byte, in order.
	Tear
	// Reorder has written a random choice of blocks: later ones may be kept while earlier ones are lost.
	Reorder
)

// Modes are all modes, for tests that run each.
var Modes = []Mode{Drop, Keep, Tear, Reorder}

// blockSize is the unit that a disk writes whole.
const blockSize = 512

// String names the mode.
func (m Mode) String() string {
	return [...]string{"drop", "keep", "tear", "reorder"}[m]
}

// Crash returns the file system as the machine finds it after a power cut and a new boot. The old one stays usable by whoever
// still holds it and no longer matters.
func (f *FaultFS) Crash(mode Mode) *FaultFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := New(f.rand.Uint64())
	after.boot = f.boot + 1
	copies := map[*inode]*inode{}
	add := func(name string, n *inode) {
		if copies[n] == nil {
			b := n.crashed(mode, f.rand)
			copies[n] = &inode{durable: b, data: append([]byte{}, b...)}
		}
		after.names[name], after.durable[name] = copies[n], copies[n]
	}
	both := maps.Clone(f.durable)
	maps.Copy(both, f.names)
	for _, name := range sortedNames(both) {
		was, is := f.durable[name], f.names[name]
		pick := was
		if was != is && (mode == Keep || mode != Drop && f.rand.IntN(2) == 0) {
			pick = is
		}
		if pick != nil {
			add(name, pick)
		}
	}
	return after
}

// Kill returns the file system as the next process of the same boot finds it: everything written is there, and what was
// dirty still is.
func (f *FaultFS) Kill() *FaultFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := New(f.rand.Uint64())
	after.boot, after.space = f.boot, f.space
	copies := map[*inode]*inode{}
	clone := func(n *inode) *inode {
		if copies[n] == nil {
			copies[n] = &inode{
				durable: append([]byte{}, n.durable...), data: append([]byte{}, n.data...), dirty: append([]change{}, n.dirty...),
			}
		}
		return copies[n]
	}
	for name, n := range f.names {
		after.names[name] = clone(n)
	}
	for name, n := range f.durable {
		after.durable[name] = clone(n)
	}
	return after
}

// crashed returns what is left of the content.
func (n *inode) crashed(mode Mode, r *rand.Rand) []byte {
	switch {
	case mode == Keep:
		return replay(n.durable, n.dirty)
	case mode == Drop || len(n.dirty) == 0:
		return append([]byte{}, n.durable...)
	case mode == Tear:
		whole := r.IntN(len(n.dirty))
		changes := append([]change{}, n.dirty[:whole]...)
		if part := n.dirty[whole]; !part.cut {
			part.data = part.data[:r.IntN(len(part.data)+1)]
			changes = append(changes, part)
		}
		return replay(n.durable, changes)
	default:
		return n.reordered(r)
	}
}

// reordered replays each block of each write by chance, so that holes of zeros or old bytes remain.
func (n *inode) reordered(r *rand.Rand) []byte {
	lost := map[int64]bool{}
	isLost := func(block int64) bool {
		if _, known := lost[block]; !known {
			lost[block] = r.IntN(2) == 0
		}
		return lost[block]
	}
	var changes []change
	for _, c := range n.dirty {
		if c.cut {
			changes = append(changes, c)
			continue
		}
		for at := int64(0); at < int64(len(c.data)); {
			block := (c.off + at) / blockSize
			end := min(int64(len(c.data)), (block+1)*blockSize-c.off)
			if !isLost(block) {
				changes = append(changes, change{off: c.off + at, data: c.data[at:end]})
			}
			at = end
		}
	}
	return replay(n.durable, changes)
}

func sortedNames(m map[string]*inode) []string { return slices.Sorted(maps.Keys(m)) }
