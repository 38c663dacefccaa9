package hsmclient

import (
	"context"
	"strconv"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

const (
	// examineEvery is how often a heartbeat of a healthy member is the whole examination: diagnosis, known answer, and the same MAC as
	// another member. With the default rhythm a device that computes wrongly is found within five seconds, for three commands of work.
	examineEvery = 5
	// mismatchRun is how many MACs in a row must not verify on a member, and how many must have verified on others meanwhile, before it is
	// examined at once. Forged or damaged messages are spread over all members, so that runs on one of them alone are rare without a cause.
	mismatchRun = 5
)

// suspicion is what the answers to callers say against a healthy member.
type suspicion struct {
	thorough      bool      // the next heartbeat is the whole examination
	distrustedAt  time.Time // when it was last examined for its answers
	mismatches    int       // MACs in a row that did not verify
	matchesBefore uint64    // of the domain when this run began
	differs       string    // the member whose MAC is another one, while nobody knows which of the two computes wrongly
}

// prove is the part of an examination that needs the canary key: the known answer, and the MAC before a witness.
func (n *node) prove(ctx context.Context, l *lane) error {
	if n.pool.cfg.Canary.IsZero() {
		return nil
	}
	if err := n.knownAnswer(ctx, l); err != nil {
		return err
	}
	return n.witnessed(ctx, l)
}

// distrust has a healthy member examined at once because of its answers, at most once in the time between two heartbeats: callers with
// wrong keys must not load the devices with examinations. The caller holds pool.mu, as of all below.
func (n *node) distrust(why string, now time.Time) {
	if n.health != healthOK || now.Sub(n.distrustedAt) < n.pool.c.cfg.Probing.Every {
		return
	}
	n.distrustedAt, n.thorough = now, true
	n.pool.c.cfg.Log.Warn("HSM is examined because of its answers", "member", n.name, "reason", why)
	n.doubt()
}

// doubts says that an error code may mean that the device holds another LMK than the one that the caller's keys are under.
func (n *node) doubts(e *command.Error) bool {
	d, ok := n.driver.(driver.KeyDoubter)
	return ok && e.Class == command.CallerFault && e.Code != "" && d.DoubtsKey(e.Code)
}

// doubtful notes that the member of this try says that a key is none under its LMK. When another member says the same, it is the
// caller's key, and nothing follows for either. true: the question to another member is worth it.
func (t *try) doubtful(e *command.Error) bool {
	if !t.node.doubts(e) {
		return false
	}
	if t.doubted != nil {
		t.doubted = nil
		return false
	}
	t.doubted, t.doubtedFor = t.node, "it answered "+e.Code+" to "+e.Command
	return true
}

// settleDoubt is called when a request is over.
func (t *try) settleDoubt(now time.Time) {
	if t.doubted != nil {
		t.doubted.distrust(t.doubtedFor, now)
	}
}

// verified counts how the verification of a MAC ended.
func (n *node) verified(match bool, now time.Time) {
	p := n.pool
	if match {
		p.matches++
		n.mismatches = 0
		return
	}
	if n.mismatches == 0 {
		n.matchesBefore = p.matches
	}
	n.mismatches++
	if n.mismatches >= mismatchRun && p.matches-n.matchesBefore >= mismatchRun {
		n.distrust(strconv.Itoa(n.mismatches)+" MACs in a row did not verify on it, while others verified on other members", now)
		n.mismatches = 0
	}
}

// disagree alarms about two members whose MACs over the same data differ, while nothing tells which of them is wrong.
func (n *node) disagree(other *node) {
	p := n.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.differs != other.name || other.differs != n.name {
		p.c.cfg.Log.Error("two HSMs compute different MACs over the same data, and both pass their known-answer test: find out which of them is wrong, and fence it",
			"member", n.name, "other", other.name)
	}
	n.differs, other.differs = other.name, n.name
}

// reconcile ends the alarm about two members.
func (n *node) reconcile(other *node) {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	if n.differs == other.name {
		n.differs = ""
	}
	if other.differs == n.name {
		other.differs = ""
	}
}

// partWays ends the alarms about a member that is no longer compared. The caller holds pool.mu.
func (n *node) partWays() {
	n.differs = ""
	for _, o := range n.pool.nodes {
		if o.differs == n.name {
			o.differs = ""
		}
	}
}
