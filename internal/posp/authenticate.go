package posp

import (
	"context"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/iso/unionpay/profile"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/workset"
)

// reloadTimeout bounds the one look into the database that a missing or unfitting key is worth.
const reloadTimeout = 500 * time.Millisecond

// candidates gives the key sets a message of the terminal may be MACed with. When memory has none, or again is set because none
// fitted, the terminal is reloaded once: it may have signed on at another instance.
func (f *flow) candidates(ctx context.Context, in *incoming, again bool) []*workset.Set {
	sets := f.keys.Table.Load(in.terminal.ID).Candidates(in.at)
	if len(sets) > 0 && !again {
		return sets
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	release, err := f.admission.lookup(ctx)
	if err == nil {
		err = f.keys.Reload(ctx, in.terminal.ID)
		release()
	}
	if err != nil {
		f.log.DebugContext(ctx, "reload of working keys failed", "terminal", in.terminal.ID, "error", err)
		return sets
	}
	return f.keys.Table.Load(in.terminal.ID).Candidates(in.at)
}

// authenticate finds the set whose MAK made the message's MAC and makes it the active one. A failure touches neither key nor
// transaction state.
func (f *flow) authenticate(ctx context.Context, in *incoming, candidates []*workset.Set) error {
	if err := f.checkLine(in); err != nil {
		return err
	}
	mac, ok := in.msg.Bytes(iso.MAC)
	if !ok {
		return &refusal{code: codeBadMAC, why: "message has no MAC"}
	}
	mab, err := unionpay.MAB(in.raw)
	if err != nil {
		return &refusal{code: codeFormat, why: "MAC data", err: err}
	}
	tried := map[uint64]bool{}
	for _, again := range []bool{false, true} {
		if again {
			candidates = f.candidates(ctx, in, true)
		}
		for _, set := range candidates {
			if tried[set.Version] || set.PSAM != in.terminal.PSAM {
				continue
			}
			tried[set.Version] = true
			good, err := f.verify(ctx, in.profile, set, mab, mac)
			if err != nil {
				return &refusal{code: codeSystem, why: "verify the MAC", err: err}
			}
			if good {
				in.set = set
				if set.State == workset.Pending {
					f.keys.Activate(in.terminal.ID, set.Version)
				}
				return nil
			}
		}
	}
	f.metrics.macFailures.Inc()
	return &refusal{code: codeBadMAC, why: "MAC is wrong"}
}

// verify has the HSM compare the MAC, as the terminal's profile has it (facts/unionpay.md §4).
func (f *flow) verify(ctx context.Context, p *profile.Profile, set *workset.Set, mab, field64 []byte) (bool, error) {
	expect, ok := p.Expected(field64)
	if !ok {
		return false, nil // A field that no MAC looks like is simply a wrong MAC.
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HSMTimeout.Std())
	defer cancel()
	return f.hsm.VerifyMAC(ctx, macInput(p, set, mab), expect)
}

// macOf makes field 64 of an answer.
func (f *flow) macOf(ctx context.Context, p *profile.Profile, set *workset.Set, mab []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HSMTimeout.Std())
	defer cancel()
	full, err := f.hsm.MAC(ctx, macInput(p, set, mab))
	if err != nil {
		return nil, err
	}
	return p.Field64(full), nil
}

// macInput is the HSM's part of a MAC.
func macInput(p *profile.Profile, set *workset.Set, mab []byte) command.MACInput {
	data, mac := p.MACData(set.MAK.Algorithm, mab)
	in := command.MACInput{Key: set.MAK, Data: data, Algorithm: command.MACAlg1}
	switch {
	case mac == profile.MACRetail:
		in.Algorithm = command.MACAlg3
	case mac == profile.MACCMAC:
		in.Algorithm = command.MACCMAC
	case set.MAK.Algorithm == keys.SM4:
		in.Algorithm = command.MACSM4CBC
	}
	return in
}

// managed runs a management flow. Where the terminal's profile has a MAC on this type of message, it must be authentic first.
func (f *flow) managed(ctx context.Context, in *incoming, next func(*incoming) error) outgoing {
	if in.profile.MustMAC(in.msg) {
		candidates := f.candidates(ctx, in, false)
		if len(candidates) == 0 {
			return f.refuse(in, codeSignOn, "terminal is not signed on")
		}
		if err := f.authenticate(ctx, in, candidates); err != nil {
			return f.refuseFor(ctx, in, err)
		}
	}
	if err := next(in); err != nil {
		return f.refuseFor(ctx, in, err)
	}
	if in.set != nil {
		return f.answer(ctx, in, txn.Reply{Code: codeOK})
	}
	return f.plain(in, codeOK, nil, nil)
}
