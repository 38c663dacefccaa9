package hsmclient

import (
	"slices"
	"strings"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
)

const (
	// refusedOften is how many refusals of one operation for want of a licence, more than successes, make a member unfit for it: two may be
	// chance, of a command that an operator allows just now. refusedMost bounds the count, so that a few successes clear it again.
	refusedOften = 3
	refusedMost  = 6
	// An unfit member is asked again with one request after refusedFirst, and then ever more seldom, down to refusedLast: a port whose
	// commands were put right gets its work back by itself within a minute.
	refusedFirst = time.Second
	refusedLast  = time.Minute
)

// refusals are those of one operation on one member. A member that refuses answers quickly and so looks idle: without this count it would
// be given nearly everything.
type refusals struct {
	score int
	again time.Time // when it may be asked again
	pause time.Duration
	why   string // the last answer
}

func (r *refusals) unfit() bool { return r.score >= refusedOften }

// passesBy says that the operation is given to others at the moment. The caller holds pool.mu, as of all below.
func (n *node) passesBy(op operation, now time.Time) bool {
	return n.unfit > 0 && n.refused[op].unfit() && now.Before(n.refused[op].again)
}

// trial notes that an unfit member is asked again: the next time is later.
func (n *node) trial(op operation, now time.Time) {
	if n.unfit == 0 || !n.refused[op].unfit() {
		return
	}
	r := &n.refused[op]
	r.pause = min(2*r.pause, refusedLast)
	r.again = now.Add(r.pause)
}

// refuses notes that the member cannot do an operation, or its driver with its settings.
func (n *node) refuses(op operation, e *command.Error, now time.Time) {
	r := &n.refused[op]
	was := r.unfit()
	r.score = min(r.score+1, refusedMost)
	if e.Code != "" {
		r.why = "answers " + e.Code + " to " + e.Command
	} else {
		r.why = text(e.Err)
	}
	if was || !r.unfit() {
		return
	}
	r.pause = refusedFirst
	r.again = now.Add(r.pause)
	n.unfit++
	n.pool.c.cfg.Log.Error("HSM does not do what it is asked for, others are preferred: check which commands its port and its licence allow, and its settings",
		"member", n.name, "command", op.String(), "reason", r.why)
}

// does notes that the member can do an operation.
func (n *node) does(op operation) {
	r := &n.refused[op]
	if r.score == 0 {
		return
	}
	was := r.unfit()
	r.score--
	r.again, r.pause = time.Time{}, refusedFirst
	if was && !r.unfit() {
		n.unfit--
	}
}

// refusedWarning says which operations the member refuses, and why.
func (n *node) refusedWarning() string {
	var names, reasons []string
	for op := range operations {
		if r := &n.refused[op]; r.unfit() {
			names = append(names, op.String())
			if !slices.Contains(reasons, r.why) {
				reasons = append(reasons, r.why)
			}
		}
	}
	if names == nil {
		return ""
	}
	return "refuses " + strings.Join(names, ", ") + " (" + strings.Join(reasons, "; ") +
		"): check which commands its port and its licence allow, and its settings; others are preferred, it is asked again now and then"
}
