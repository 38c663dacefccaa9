package reverse_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/reverse"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/keys/secret"
)

// TestAdviceUntilAnswered: an advice goes out again as it was until the host answers it; a host that cannot just now has not answered. What the
// host refuses in the end is told to people.
func TestAdviceUntilAnswered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		last host.Result
		want txn.State
	}{
		"taken":   {done, txn.Approved},
		"refused": {host.Result{Outcome: txn.Answered, Reply: txn.Reply{Code: "14"}}, txn.Declined},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			b := &bank{answers: []host.Result{silent, {Outcome: txn.Answered, Reply: txn.Reply{Code: "96"}}, c.last}}
			j, engine, end := r.life(map[string]host.Host{"bank": b}, nil)
			k := txn.Key{Terminal: "10000001", Merchant: "104110000000001", Batch: "000001", Trace: "000001", MTI: "0220", Type: "24"}
			began := time.Now()
			e, _ := j.Begin(k, [32]byte{1}, ledger.Record{Kind: txn.CompletionAdvice, ProcCode: "000000", Amount: 1234, Currency: "156"}, began)
			pan, err := secret.ParsePAN(card)
			if err != nil {
				t.Fatal(err)
			}
			trace, rrn := e.Reference()
			first := host.Request{
				Kind: txn.CompletionAdvice, Trace: trace, RRN: rrn, SentAt: e.Began(), Terminal: k.Terminal, Merchant: k.Merchant, PAN: pan, Expiry: "3012",
				ProcCode: "000000", Amount: 1234, Currency: "156", EntryMode: "022", CardSeq: "001", Condition: "06", ICData: []byte{0x95, 1, 0}, AuthCode: "123456", Try: 1,
				Original: &host.Original{Kind: txn.PreAuth, Trace: "000009", RRN: "R", SentAt: began.UTC().Round(0), Terminal: k.Terminal, Amount: 1100, AuthCode: "123456"},
			}
			sealed, err := reverse.MaterialOf(first).Seal(r.sealer, e.ID())
			if err != nil || bytes.Contains(sealed, []byte(card)) {
				t.Fatalf("sealed %x, %v", sealed, err)
			}
			if err := e.Sending(t.Context(), "bank", sealed); err != nil {
				t.Fatal(err)
			}
			if err := e.Conclude(t.Context(), txn.Unknown, txn.Reply{Code: "00"}, "98"); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // an advice has no signal for its end
				if state, _, _ := e.Standing(); state == c.want {
					break
				} else if time.Now().After(deadline) {
					t.Fatalf("state %s", state)
				}
			}
			end()
			if len(b.told) != 3 || len(b.asked) != 0 || engine.Owed() != 0 {
				t.Fatalf("told %d times, %d reversals, %d owed", len(b.told), len(b.asked), engine.Owed())
			}
			for i, got := range b.told {
				want, of := first, *first.Original
				if want.Try = i + 2; got.PAN.Reveal() != card || !got.SentAt.Equal(want.SentAt) || !got.Original.SentAt.Equal(of.SentAt) {
					t.Errorf("try %d: card, time or time of the original differ", want.Try)
				}
				facts := func(r host.Request, o host.Original) string {
					r.Original, r.SentAt, o.SentAt = nil, time.Time{}, time.Time{}
					return fmt.Sprintf("%+v of %+v", r, o)
				}
				if got, want := facts(got, *got.Original), facts(want, of); got != want {
					t.Errorf("sent: %s\nwant: %s", got, want)
				}
			}
			if log := r.log.String(); strings.Contains(log, card) || strings.Contains(log, "settle it by hand") != (c.want == txn.Declined) {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}
