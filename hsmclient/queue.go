package hsmclient

import (
	"context"
	"fmt"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
)

const (
	// Every shareOfSignOns-th place goes to a sign-on and every shareOfBackground-th to background work, where such wait: transactions go
	// first, but nobody starves.
	shareOfSignOns    = 8
	shareOfBackground = 32
	// lookAhead bounds the search behind a request that only other members than the free ones may serve.
	lookAhead = 16
)

// list is a queue of tries, oldest first.
type list struct {
	head, tail *try
	n          int
}

func (l *list) push(t *try) {
	t.before, t.after = l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.after = t
	}
	l.tail = t
	l.n++
}

func (l *list) remove(t *try) {
	if t.before == nil {
		l.head = t.after
	} else {
		t.before.after = t.after
	}
	if t.after == nil {
		l.tail = t.before
	} else {
		t.after.before = t.before
	}
	t.before, t.after = nil, nil
	l.n--
}

// dispatch gives free places to those who wait. The caller holds mu.
func (p *pool) dispatch() {
	for p.waitingNow() > 0 {
		first := command.Transaction
		switch {
		case p.served%shareOfBackground == shareOfBackground-1:
			first = command.Background
		case p.served%shareOfSignOns == shareOfSignOns-1:
			first = command.SignOn
		}
		if !p.serveOne(first) {
			return
		}
		p.served++
	}
}

// serveOne gives a place to one request, of class first where such wait, else of the highest. The caller holds mu.
func (p *pool) serveOne(first command.Priority) bool {
	if p.serveClass(first) {
		return true
	}
	for class := command.Transaction; class >= command.Background; class-- {
		if class != first && p.serveClass(class) {
			return true
		}
	}
	return false
}

func (p *pool) serveClass(class command.Priority) bool {
	t := p.waiting[class].head
	for range lookAhead {
		if t == nil {
			return false
		}
		if n := p.find(t); n != nil {
			p.waiting[class].remove(t)
			p.take(t, n, time.Now())
			t.given <- struct{}{} // has room for one, and a request waits once
			return true
		}
		t = t.after
	}
	return false
}

// sweep ends what is overdue: the tries whose share of time is over or whose caller has gone, and the waiting that has no end in
// sight. It says whether anything is left to watch.
func (p *pool) sweep(now time.Time) bool {
	p.mu.Lock()
	defer p.unlock()
	for t := p.under.head; t != nil; t = t.after {
		if err := t.parent.Err(); err != nil {
			t.talk.end(err)
		} else if !t.talk.deadline.After(now) {
			t.talk.end(context.DeadlineExceeded)
		}
	}
	for i := range p.waiting {
		for t := p.waiting[i].head; t != nil; {
			next := t.after
			if err := p.overdue(t, now); err != nil {
				p.turnAway(t, err)
			}
			t = next
		}
	}
	return p.running > 0
}

// overdue says why a request must not wait longer. The caller holds mu.
func (p *pool) overdue(t *try, now time.Time) error {
	err := t.parent.Err()
	switch {
	case err != nil:
		return fmt.Errorf("no free place: %w", err)
	case len(p.tiers) == 0 && now.Sub(p.emptyAt) >= grace:
		return p.noMember()
	case t.elsewhere && !p.healthy(t):
		return errNoOther
	case now.Sub(t.queued) >= p.c.cfg.Timeout:
		return fmt.Errorf("no free place within %s", p.c.cfg.Timeout)
	}
	return nil
}
