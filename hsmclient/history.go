package hsmclient

import (
	"context"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// historySize is how many switches are kept; a bad day of one member has a few hundred.
const historySize = 1000

// history is a ring of the newest switches, and the one goroutine that tells others of them.
type history struct {
	mu    sync.Mutex
	ring  [historySize]member.Switch
	seq   uint64 // of the newest entry
	fresh chan struct{}
	total map[string]uint64 // by What, entries of phase After
}

func newHistory() *history {
	return &history{fresh: make(chan struct{}, 1), total: map[string]uint64{}}
}

// add writes an entry.
func (h *history) add(s member.Switch, phase member.Phase) {
	h.mu.Lock()
	h.seq++
	s.Seq, s.At, s.Phase = h.seq, time.Now(), phase
	h.ring[h.seq%historySize] = s
	if phase == member.After {
		h.total[s.What]++
	}
	h.mu.Unlock()
	select {
	case h.fresh <- struct{}{}:
	default: // the teller has been told
	}
}

// failed is what an operation of several steps has led to when it was announced and could not be done in full.
const failed = "failed"

// conclude reports how an announced operation has ended, a failed one too: nobody is left waiting for its end.
func (h *history) conclude(s member.Switch, err error) {
	if err != nil {
		s.To, s.Reason = failed, err.Error()
	}
	h.add(s, member.After)
}

// newest gives at most limit entries, the newest first.
func (h *history) newest(limit int) []member.Switch {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := max(0, min(uint64(max(0, limit)), h.seq, historySize))
	list := make([]member.Switch, 0, n)
	for i := range n {
		list = append(list, h.ring[(h.seq-i)%historySize])
	}
	return list
}

// after gives the entries behind the given one, the oldest first.
func (h *history) after(seq uint64) []member.Switch {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seq-seq > historySize { // overtaken
		seq = h.seq - historySize
	}
	var list []member.Switch
	for s := seq + 1; s <= h.seq; s++ {
		list = append(list, h.ring[s%historySize])
	}
	return list
}

// tell logs every entry and hands it to OnSwitch, in order, until ctx ends; what is there then is still told.
func (c *Cluster) tell(ctx context.Context) {
	var told uint64
	for {
		for _, s := range c.history.after(told) {
			if s.Seq > told+1 {
				c.cfg.Log.WarnContext(ctx, "switches came faster than they could be told", "lost", s.Seq-told-1)
			}
			told = s.Seq
			c.cfg.Log.InfoContext(ctx, "HSM switch", "phase", string(s.Phase), "domain", s.Domain, "member", s.Member, "what", s.What, "from", s.From, "to", s.To,
				"by", s.By, "reason", s.Reason)
			if c.cfg.OnSwitch != nil {
				c.cfg.OnSwitch(s)
			}
		}
		select {
		case <-c.history.fresh:
		case <-ctx.Done():
			if len(c.history.after(told)) == 0 {
				return
			}
		}
	}
}

// History gives at most limit switches, the newest first.
func (c *Cluster) History(limit int) []member.Switch { return c.history.newest(limit) }
