package posp

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
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
			good, err := f.verify(ctx, set, mab, mac)
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

// verify has the HSM compare the MAC. UnionPay's: the XOR of all blocks, as 16 hex characters, CBC-MACed; field 64 is the first
// four bytes of the result in hex (facts/unionpay.md §4).
func (f *flow) verify(ctx context.Context, set *workset.Set, mab, field64 []byte) (bool, error) {
	expect := make([]byte, len(field64)/2)
	if _, err := hex.Decode(expect, field64); err != nil {
		return false, nil // A field that is not hex text is simply a wrong MAC.
	}
	folded := unionpay.Fold(mab)
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HSMTimeout.Std())
	defer cancel()
	return f.hsm.VerifyMAC(ctx, macInput(set, folded[:]), expect)
}

// macOf makes field 64 of an answer.
func (f *flow) macOf(ctx context.Context, set *workset.Set, mab []byte) ([]byte, error) {
	folded := unionpay.Fold(mab)
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HSMTimeout.Std())
	defer cancel()
	full, err := f.hsm.MAC(ctx, macInput(set, folded[:]))
	if err != nil {
		return nil, err
	}
	const upper = "0123456789ABCDEF"
	out := make([]byte, 0, 8)
	for _, b := range full[:4] {
		out = append(out, upper[b>>4], upper[b&15])
	}
	return out, nil
}

func macInput(set *workset.Set, data []byte) command.MACInput {
	in := command.MACInput{Key: set.MAK, Algorithm: command.MACAlg1, Data: data}
	if set.MAK.Algorithm == keys.SM4 {
		in.Algorithm = command.MACSM4CBC
	}
	return in
}
