package hsm

import (
	"bytes"
	"slices"
	"sync"
)

// exchange gives two answers of one connection each other's headers, for the fault swap_header_every. Only requests that are in flight at
// the same time can be exchanged.
type exchange struct {
	mu       sync.Mutex
	inFlight []flight // At most maxInFlight.
}

// flight is a request that is not answered yet.
type flight struct {
	header []byte
	gets   []byte // The header that its answer gets instead; nil: its own.
}

// enter notes a request.
func (e *exchange) enter(header []byte) {
	e.mu.Lock()
	e.inFlight = append(e.inFlight, flight{header: header})
	e.mu.Unlock()
}

// leave takes a request out and writes the header that its answer gets.
func (e *exchange) leave(now *condition, header, answer []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.inFlight, func(f flight) bool { return bytes.Equal(f.header, header) })
	if i < 0 {
		return
	}
	own := e.inFlight[i]
	e.inFlight = slices.Delete(e.inFlight, i, i+1)
	if answer == nil {
		return
	}
	if own.gets != nil {
		copy(answer, own.gets)
		return
	}
	j := slices.IndexFunc(e.inFlight, func(f flight) bool { return f.gets == nil && !bytes.Equal(f.header, header) })
	if j < 0 || !now.every(countSwap, now.SwapHeaderEvery) {
		return
	}
	e.inFlight[j].gets = own.header
	copy(answer, e.inFlight[j].header)
}
