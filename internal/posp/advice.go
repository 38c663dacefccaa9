package posp

import (
	"context"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/txn"
)

// An advice tells of something that has happened already, so it cannot be undone: it is stored and forwarded. Once it is recorded as
// "sending", posp has charge of it: the host is told until it answers (internal/posp/reverse), and a terminal that asks before that hears 00.
// Before it is recorded nothing is promised, and the terminal, which keeps its advices until they are taken, sends it again.

// replyOf is what the terminal is told about the result of step 8, or of the step that ended the transaction before it.
func replyOf(entry *journal.Entry, result host.Result) txn.Reply {
	reply := result.Reply
	state, _, _ := entry.Standing()
	if advice := entry.Original().Kind.Doubt() == txn.Deliver; advice && state == txn.Sending && result.Outcome != txn.Answered {
		reply.Code, reply.HostTime = codeOK, entry.Began() // a repeat gets the same answer
	} else if result.Outcome == txn.Unknown {
		reply.Code = codeNoAnswer
	} else if result.Outcome == txn.NotSent && reply.Code == "" {
		reply.Code = codeHostDown
	}
	if reply.RRN == "" {
		_, reply.RRN = entry.Reference()
	}
	return reply
}

// notTaken refuses an advice that was not recorded and forgets it, so that the same message may come again.
func (f *flow) notTaken(ctx context.Context, in *incoming, entry *journal.Entry, result host.Result) outgoing {
	reply := replyOf(entry, result)
	entry.Drop()
	out := f.answer(ctx, in, reply)
	out.err = result.Err
	return out
}

// refuseOnDemand answers what the dialect knows and no host asks for yet: authentic, and refused.
func (f *flow) refuseOnDemand(ctx context.Context, in *incoming) outgoing {
	candidates := f.candidates(ctx, in, false)
	if len(candidates) == 0 {
		return f.refuse(in, codeSignOn, "terminal is not signed on")
	}
	if err := f.authenticate(ctx, in, candidates); err != nil {
		return f.refuseFor(ctx, in, err)
	}
	return f.refuseMACed(ctx, in, codeUnsupported, string(in.row.Kind)+" is not served: no host takes it")
}

// tagTrack2 is the EMV tag of the track 2 equivalent data.
const tagTrack2 = 0x57

// withoutTrack2 takes the track out of an advice's chip data: an advice is stored until it is answered, and a track never is (design.md §4).
// Data that cannot be read as EMV tags, lengths and values is dropped as a whole.
func withoutTrack2(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for rest := data; len(rest) > 0; {
		tag := 1
		if rest[0]&0x1f == 0x1f {
			for tag < len(rest) && rest[tag]&0x80 != 0 {
				tag++
			}
			tag++
		}
		head, size := tag+1, 0
		if tag < len(rest) {
			size = int(rest[tag])
		}
		if size == 0x81 && head < len(rest) {
			size = int(rest[head])
			head++
		} else if size > 0x7f {
			return nil
		}
		if tag >= len(rest) || head+size > len(rest) {
			return nil
		}
		if rest[0] != tagTrack2 {
			out = append(out, rest[:head+size]...)
		}
		rest = rest[head+size:]
	}
	return out
}
