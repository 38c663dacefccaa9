package posp

import (
	"context"
	"sync"
	"time"
)

const (
	// maxSignOns bounds sign-ons under way while no transaction is.
	maxSignOns = 64
	// signOnsBeside bounds them while transactions are under way: three HSM commands and one database commit each, so that a
	// transaction finds HSM and database connections (10 by default) free whatever storm there is.
	signOnsBeside = 6
	// maxSignOnsWaiting bounds those that wait: at a few hundred a second more would only run out of time.
	maxSignOnsWaiting = 2048
	// signOnWait is how long a sign-on waits for its turn.
	signOnWait = 5 * time.Second
)

// signOnQueue lets sign-ons in: transactions first, and merchants in turn, so that one chain whose terminals all start at once does not
// keep the single terminal of a corner shop out. When it is full, the merchant with the most in it loses its youngest.
type signOnQueue struct {
	transactions func() int // under way

	mu       sync.Mutex // not held while waiting
	running  int
	waiting  int
	turns    []string // merchants with somebody waiting; the first is next
	merchant map[string][]*ticket
}

// ticket is one that waits. result is written once: nil when its turn has come, or why it will not come.
type ticket struct{ result chan error }

func newSignOnQueue(transactions func() int) *signOnQueue {
	return &signOnQueue{transactions: transactions, merchant: map[string][]*ticket{}}
}

// enter waits for the turn of a merchant's terminal, bounded; the caller gives the place back with release.
func (q *signOnQueue) enter(ctx context.Context, merchant string) (release func(), err error) {
	mine := &ticket{result: make(chan error, 1)}
	q.mu.Lock()
	if q.waiting >= maxSignOnsWaiting && !q.makeRoom(merchant) {
		q.mu.Unlock()
		return nil, errSignOns
	}
	if len(q.merchant[merchant]) == 0 {
		q.turns = append(q.turns, merchant)
	}
	q.merchant[merchant] = append(q.merchant[merchant], mine)
	q.waiting++
	q.dispatch()
	q.mu.Unlock()

	timer := time.NewTimer(signOnWait)
	defer timer.Stop()
	select {
	case err = <-mine.result:
	case <-timer.C:
		err = q.giveUp(merchant, mine, errSignOns)
	case <-ctx.Done():
		err = q.giveUp(merchant, mine, ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	return q.release, nil
}

// dispatch lets in as many as may be. The caller holds mu.
func (q *signOnQueue) dispatch() {
	limit := maxSignOns
	if q.transactions() > 0 {
		limit = signOnsBeside
	}
	for q.running < limit && q.waiting > 0 {
		next := q.turns[0]
		q.turns = q.turns[1:]
		list := q.merchant[next]
		list[0].result <- nil
		if list = list[1:]; len(list) == 0 {
			delete(q.merchant, next)
		} else {
			q.merchant[next] = list
			q.turns = append(q.turns, next)
		}
		q.waiting--
		q.running++
	}
}

// makeRoom turns the youngest of the merchant with the most waiting away, unless the newcomer's merchant is the one. The caller holds
// mu.
func (q *signOnQueue) makeRoom(newcomer string) bool {
	most := newcomer
	for m, list := range q.merchant {
		if len(list) > len(q.merchant[most]) {
			most = m
		}
	}
	list := q.merchant[most]
	if most == newcomer || len(list) == 1 {
		return false
	}
	list[len(list)-1].result <- errSignOns
	q.merchant[most] = list[:len(list)-1]
	q.waiting--
	return true
}

// giveUp takes a ticket out; one whose turn came at the same moment keeps its place.
func (q *signOnQueue) giveUp(merchant string, mine *ticket, cause error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case err := <-mine.result:
		return err
	default:
	}
	list := q.merchant[merchant]
	for i, t := range list {
		if t == mine {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	q.waiting--
	if len(list) > 0 {
		q.merchant[merchant] = list
		return cause
	}
	delete(q.merchant, merchant)
	for i, m := range q.turns {
		if m == merchant {
			q.turns = append(q.turns[:i], q.turns[i+1:]...)
			break
		}
	}
	return cause
}

// release gives a place back.
func (q *signOnQueue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.dispatch()
}

// wake looks again, after the last transaction has ended.
func (q *signOnQueue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dispatch()
}

// standing is how many run and how many wait.
func (q *signOnQueue) standing() (running, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running, q.waiting
}
