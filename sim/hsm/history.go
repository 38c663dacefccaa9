package hsm

import (
	"sync"
	"sync/atomic"
	"time"
)

// Entry is one command in the request history. It tells what happened, never what the message contained.
type Entry struct {
	Time         time.Time `json:"time"`          // When the request had been read.
	Port         string    `json:"port"`          // Name of the listener.
	Connection   uint64    `json:"connection"`    // Number of the connection since start.
	Command      string    `json:"command"`       // Two characters; "??" for an unknown one.
	RequestBytes int       `json:"request_bytes"` // Without the length field.
	AnswerBytes  int       `json:"answer_bytes"`  // Without the length field; 0 when none was sent.
	ErrorCode    string    `json:"error_code"`    // Two characters; "" when the command was not executed.
	DurationUS   int64     `json:"duration_us"`   // From read to written, microseconds.
}

// history is a ring of the newest entries.
type history struct {
	mu   sync.Mutex
	ring []Entry
	next int // Where the next entry goes.
	used int
}

func newHistory(size int) *history { return &history{ring: make([]Entry, size)} }

func (h *history) add(e Entry) {
	h.mu.Lock()
	h.ring[h.next] = e
	h.next = (h.next + 1) % len(h.ring)
	h.used = min(h.used+1, len(h.ring))
	h.mu.Unlock()
}

// newest returns at most limit entries, the newest first.
func (h *history) newest(limit int) []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := max(0, min(limit, h.used))
	list := make([]Entry, 0, n)
	for i := 1; i <= n; i++ {
		list = append(list, h.ring[(h.next-i+len(h.ring))%len(h.ring)])
	}
	return list
}

// Counters are totals since the device was made.
type Counters struct {
	ConnectionsOpen int64 `json:"connections_open"` // Now.
	Accepted        int64 `json:"accepted"`         // Connections served.
	Refused         int64 `json:"refused"`          // Connections closed at once: too many, or by a fault.
	Requests        int64 `json:"requests"`         // Frames read.
	Answers         int64 `json:"answers"`          // Frames written.
	Dropped         int64 `json:"dropped"`          // Answers not sent because of a fault.
	Held            int64 `json:"held"`             // Answers withheld now.
	BadFrames       int64 `json:"bad_frames"`       // Frames too short to be answered.
	Stored          int64 `json:"stored"`           // Keys in the user storage: one per storing command that was carried out.
}

// counters are the live form of Counters.
type counters struct {
	open, accepted, refused, requests, answers, dropped, badFrames atomic.Int64
}
