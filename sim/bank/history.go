package bank

import (
	"sync"
	"time"
)

// historySize bounds the history; the oldest entries are overwritten. Enough for a demo or a test to look back, a few
// megabytes at most.
const historySize = 10_000

// Entry is one message that arrived. It never holds a PIN block, a track or a full PAN.
type Entry struct {
	Time         time.Time   `json:"time"`
	Connection   string      `json:"connection"` // Number of the connection and the peer's address.
	MTI          string      `json:"mti"`
	Kind         string      `json:"kind,omitempty"`            // As in the book; empty for network messages and what was not understood.
	Processing   string      `json:"processing_code,omitempty"` // Field 3.
	Network      string      `json:"network_code,omitempty"`    // Field 70.
	Trace        string      `json:"trace,omitempty"`           // Field 11.
	RRN          string      `json:"rrn,omitempty"`             // Field 37.
	Terminal     string      `json:"terminal,omitempty"`        // Field 41.
	Amount       int64       `json:"amount,omitempty"`          // Field 4, smallest unit.
	PAN          string      `json:"pan,omitempty"`             // Masked: first six and last four digits.
	ResponseCode string      `json:"response_code,omitempty"`   // What the bank decided, also when no answer left.
	Duplicate    bool        `json:"duplicate"`                 // Answered from memory.
	Booked       bool        `json:"booked"`                    // This message moved money.
	Note         string      `json:"note,omitempty"`            // Why it was refused: names of fields, never their content.
	Faults       []FaultKind `json:"faults,omitempty"`          // What the bank did wrong on purpose.
}

// history is a ring of entries.
type history struct {
	mu   sync.Mutex
	ring []Entry
	next int // Where the next entry goes once the ring is full.
}

func newHistory() *history { return &history{} }

func (h *history) add(e Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ring) < historySize {
		h.ring = append(h.ring, e)
		return
	}
	h.ring[h.next] = e
	h.next = (h.next + 1) % historySize
}

func (h *history) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ring, h.next = nil, 0
}

// History lists the last messages that arrived, oldest first. limit bounds the list; 0 or less means all that are kept
// (10,000).
func (b *Bank) History(limit int) []Entry {
	b.history.mu.Lock()
	defer b.history.mu.Unlock()
	ring := b.history.ring
	n := len(ring)
	if limit > 0 {
		n = min(n, limit)
	}
	out := make([]Entry, 0, n)
	for i := len(ring) - n; i < len(ring); i++ {
		out = append(out, ring[(b.history.next+i)%len(ring)])
	}
	return out
}
