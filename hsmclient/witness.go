package hsmclient

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// proofBytes is how much random data a candidate has to MAC: nobody can have seen the answer before.
const proofBytes = 32

// A check value, a firmware and the answer to a known-answer test never change and are no secrets: a device without the LMK could repeat
// what it has overheard. Only who holds the LMK can MAC fresh random data under the canary key, so a member in good standing is asked
// for the same MAC: the witness.

// witnessed lets a member in good standing check that the device of l holds the LMK, and computes as it should: the device has passed
// its known-answer test just now. Where the domain has no other such member, or no canary key that can MAC, there is nothing to compare
// with: n.unproven then tells whether one may turn up.
func (n *node) witnessed(ctx context.Context, l *lane) error {
	in, can := n.proof()
	n.setUnproven(can)
	if !can {
		return nil
	}
	other := n.witness(nil)
	if other == nil {
		return nil
	}
	_, _ = rand.Read(in.Data) // never fails since Go 1.24: the runtime stops the program instead
	expect, err := macOn(ctx, other, &in)
	if err != nil {
		if refuses(err) { // a group that may not MAC, such as the one for issuing, has no witnesses
			n.setUnproven(false)
			return nil
		}
		n.pool.c.cfg.Log.WarnContext(ctx, "the witness for an HSM did not answer, another one is asked next time", "member", n.name, "witness", other.node.name, "cause", err)
		return nil
	}
	got, err := macOn(ctx, l, &in)
	var e *command.Error
	switch {
	case errors.As(err, &e) && e.Code != "" && e.Class != command.MemberFault:
		return fmt.Errorf("%w: %s cannot prove that it holds the LMK: it answered %s to %s for the canary key; allow it that command", errDeviates, n.name, e.Code, e.Command)
	case err != nil:
		return err
	case subtle.ConstantTimeCompare(got, expect) != 1:
		return n.dispute(ctx, other, in, got, expect)
	}
	n.reconcile(other.node)
	n.setUnproven(false)
	return nil
}

// dispute finds out which of two devices computes wrongly, when their MACs over the same data differ: the witness, when it fails its
// known-answer test, which the other has passed just now; else the one that a third member does not agree with. Without a third one a
// candidate is not believed, and two members that both serve are alarmed about: the next examinations go on comparing.
func (n *node) dispute(ctx context.Context, with *lane, in command.MACInput, got, expect []byte) error {
	other := with.node
	if err := other.knownAnswer(ctx, with); isDeviation(err) {
		other.blame(err)
		return nil
	}
	differ := fmt.Sprintf("the MACs of %s and %s over the same data differ", n.name, other.name)
	if third := n.witness(other); third != nil {
		said, err := macOn(ctx, third, &in)
		switch {
		case err != nil:
			n.pool.c.cfg.Log.WarnContext(ctx, "the third HSM did not answer", "member", third.node.name, "dispute", differ, "cause", err)
		case subtle.ConstantTimeCompare(said, got) == 1:
			other.blame(fmt.Errorf("%w: %s, and %s computes as %s does", errDeviates, differ, third.node.name, n.name))
			n.setUnproven(false)
			return nil
		case subtle.ConstantTimeCompare(said, expect) == 1:
			return fmt.Errorf("%w: %s, and %s computes as %s does", errDeviates, differ, third.node.name, other.name)
		}
	}
	if !n.isHealthy() {
		return fmt.Errorf("%w: %s, though both show the check value of the LMK: find out which of the two is not genuine", errDeviates, differ)
	}
	n.disagree(other)
	return nil
}

// blame fences a healthy member for what the examination of another has shown.
func (n *node) blame(cause error) {
	n.pool.mu.Lock()
	defer n.pool.unlock()
	if n.health == healthOK {
		n.fence(cause.Error(), time.Now())
	}
}

func (n *node) isHealthy() bool {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	return n.health == healthOK
}

// proof is the MAC that a candidate is asked for; false where the canary key or the driver cannot.
func (n *node) proof() (command.MACInput, bool) {
	canary := n.pool.cfg.Canary
	in := command.MACInput{Key: canary, Data: make([]byte, proofBytes)}
	_, ok := n.driver.(driver.MACer)
	good := slices.Contains([]keys.Usage{keys.MACKey, keys.ZoneMAC, keys.Seal}, canary.Usage)
	return in, ok && good && !canary.IsZero() && n.can.Has(command.CanMAC)
}

// proofAlgorithms are the MACs that a key of each algorithm may be good for; a key block allows only one of them.
var proofAlgorithms = map[keys.Algorithm][]command.MACAlgorithm{
	keys.DES:  {command.MACAlg1, command.MACCMAC},
	keys.TDES: {command.MACAlg3, command.MACCMAC, command.MACAlg1},
	keys.AES:  {command.MACCMAC},
	keys.SM4:  {command.MACSM4CBC, command.MACCMAC},
}

// macOn has the device of a channel compute the proof. The algorithm is the first that the driver takes; in keeps it, so that both
// sides compute the same.
func macOn(ctx context.Context, l *lane, in *command.MACInput) (mac []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.node.pool.c.cfg.Probing.Timeout)
	defer cancel()
	d, _ := l.node.driver.(driver.MACer) // proof and witness have made sure
	try := proofAlgorithms[in.Key.Algorithm]
	if in.Algorithm != 0 {
		try = []command.MACAlgorithm{in.Algorithm}
	}
	err = &command.Error{Class: command.NoLicence, Command: opMAC.String(), Err: errNoDriver}
	for _, in.Algorithm = range try {
		mac, err = d.MAC(ctx, probe{lane: l}, *in)
		var e *command.Error
		if !errors.As(err, &e) || e.Class != command.CallerFault || e.Code != "" {
			break // an answer, or a failure that no other algorithm mends
		}
	}
	return mac, err
}

// refuses says that a device or its driver will not do it, now or later.
func refuses(err error) bool {
	class := command.ClassOf(err)
	return class == command.CallerFault || class == command.NoLicence
}

// witness gives a channel of another member in good standing, nil where there is none; they take turns. Each member of a domain may be
// asked: the heartbeat's own place is free on every channel.
func (n *node) witness(leaveOut *node) *lane {
	p := n.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	n.witnesses++
	for k := range p.nodes {
		other := p.nodes[(n.witnesses+k)%len(p.nodes)]
		if other != n && other != leaveOut && other.canWitness() {
			return other.nextLane()
		}
	}
	return nil
}

// canWitness says that a member is healthy and can MAC. The caller holds pool.mu.
func (n *node) canWitness() bool {
	_, ok := n.driver.(driver.MACer)
	return ok && n.can.Has(command.CanMAC) && n.health == healthOK && n.order != orderFence && len(n.lanes) > 0
}

// mustProve says that a member which has passed without a witness has one by now, or is about to: of several that come at the same time,
// one is admitted first. The caller holds pool.mu.
func (n *node) mustProve() bool {
	if !n.unproven {
		return false
	}
	for _, other := range n.pool.nodes {
		if other != n && (other.canWitness() || other.admitting && other.health != healthOK) {
			return true
		}
	}
	return false
}

func (n *node) setUnproven(v bool) {
	n.pool.mu.Lock()
	n.unproven = v
	n.pool.mu.Unlock()
}
