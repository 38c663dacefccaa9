package posp

import (
	"sync"

	"github.com/keyward/keyward/internal/txn"
)

// handovers are the transactions whose first answer is not yet handed to a socket. While one is open, a repeat of the same request on
// another connection may be answered as well, so whether the terminal got the approval is decided for all of them together: an
// approval is taken back only when none was handed over, and nothing is handed over after it was taken back.
type handovers struct {
	mu   sync.Mutex
	open map[txn.ID]*handover // bounded by the transactions under way
}

// handover is held while an answer goes to a socket, and while it is decided that none will.
type handover struct {
	sync.Mutex
	done bool // some connection has the answer, or a part of it
}

func newHandovers() *handovers { return &handovers{open: map[txn.ID]*handover{}} }

// begin opens the handover of a new transaction; end closes it.
func (h *handovers) begin(id txn.ID) *handover {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := &handover{}
	h.open[id] = one
	return one
}

// find gives the handover of a transaction that a repeat asks for; nil when the first answer is through.
func (h *handovers) find(id txn.ID) *handover {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open[id]
}

func (h *handovers) end(id txn.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, id)
}
