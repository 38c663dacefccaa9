package posp

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/iso/unionpay/profile"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/keys/workset"
)

const (
	// firstBatch is the batch number of a terminal that never had one.
	firstBatch = "000001"
	// sameAnswerWindow is how long the same 0800 gets the same answer. It covers a terminal's repeats; later the same bytes are a
	// new sign-on of a terminal that does not count its traces (facts/unionpay-packets.txt [3] has trace 000000).
	sameAnswerWindow = 2 * time.Minute
)

// signOn handles 0800 with a sign-on code in 60.3 (P6); which codes there are is the profile's. Step 1 (decode) and step 2 (terminal
// known, active, card bound) are done by handle.
func (f *flow) signOn(ctx context.Context, in *incoming) outgoing {
	if err := in.terminal.CheckActive(); err != nil {
		return f.plain(in, codeNotAllowed, err, nil)
	}
	if err := f.checkLine(in); err != nil {
		return f.plain(in, codeNotAllowed, err, nil)
	}
	form, known := in.profile.SignOn(in.f60.Network)
	if !known {
		return f.refuse(in, codeUnsupported, "sign-on code is not served")
	}
	if form.Algorithm != in.terminal.Algorithm {
		// The registry decides the algorithm, never the message.
		f.metrics.weaker.Inc()
		return f.refuse(in, codeNotAllowed, fmt.Sprintf("sign-on asks for %s, the registry says %s", form.Algorithm, in.terminal.Algorithm))
	}
	if err := in.profile.Fits(in.terminal.Algorithm, in.terminal.MAKBytes); err != nil {
		return f.plain(in, codeNotAllowed, err, nil)
	}
	digest := sha256.Sum256(messageOf(in))
	done, err := f.admission.alone(ctx, in.terminal.ID, digest)
	if err != nil {
		return f.plain(in, codeSystem, err, nil)
	}
	defer done()
	if same := f.keys.Table.Load(in.terminal.ID).Same(digest, in.at); same != nil && in.at.Sub(same.MadeAt) < sameAnswerWindow && same.PSAM == in.terminal.PSAM {
		return f.signedOn(in, same, form)
	}

	// Step 3: admission. A storm of sign-ons waits a bounded time, then 96: transactions come first, and merchants take turns.
	release, err := f.admission.signOn(ctx, in.terminal.ID, in.terminal.Merchant)
	if err != nil {
		return f.plain(in, codeSystem, err, nil)
	}
	defer release()

	// Step 4: the card master key's stored cryptogram. CheckActive has seen it; posp itself can derive nothing (P1).
	master := in.terminal.Master

	// Step 5: the HSM makes the working keys under it.
	set, err := f.makeKeys(ctx, in, master, form)
	if err != nil {
		return f.plain(in, codeSystem, err, nil)
	}
	set.Request = digest

	// Step 6: commit as pending. Nothing is answered that another instance could not find.
	if err := f.keys.Commit(ctx, in.terminal.ID, set); err != nil {
		return f.plain(in, codeSystem, err, nil)
	}

	// Step 7: answer. Step 8 happens with the first message MACed with the set: see authenticate.
	return f.signedOn(in, set, form)
}

// makeKeys is step 5. The keys are asked for together, so that a sign-on costs the time of one.
func (f *flow) makeKeys(ctx context.Context, in *incoming, master keys.Wrapped, form profile.SignOn) (*workset.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HSMTimeout.Std())
	defer cancel()
	makAlgorithm := form.Algorithm
	if makAlgorithm == keys.TDES && in.terminal.MAKBytes == 8 {
		makAlgorithm = keys.DES
	}
	wanted := []command.WorkKey{
		{Master: master, Usage: keys.PINKey, Algorithm: form.Algorithm},
		{Master: master, Usage: keys.MACKey, Algorithm: makAlgorithm},
	}
	if form.Track {
		wanted = append(wanted, command.WorkKey{Master: master, Usage: keys.TrackKey, Algorithm: form.Algorithm})
	}
	type result struct {
		i    int
		made command.MadeKey
		err  error
	}
	results := make(chan result, len(wanted))
	for i, w := range wanted {
		go func() {
			made, err := f.hsm.MakeWorkKey(ctx, w)
			results <- result{i, made, err}
		}()
	}
	made := make([]command.MadeKey, len(wanted))
	var failed error
	for range wanted {
		r := <-results
		made[r.i] = r.made
		failed = errors.Join(failed, r.err)
	}
	if failed != nil {
		return nil, fmt.Errorf("make working keys: %w", failed)
	}
	block := unionpay.KeyBlock{PIK: workKey(made[0]), MAK: workKey(made[1])}
	set := &workset.Set{
		PSAM: in.terminal.PSAM, MasterKey: in.terminal.MasterKey, PIK: made[0].Key, MAK: made[1].Key,
		Batch: f.batchFor(in), MadeAt: in.at, ExpiresAt: in.at.Add(workset.PendingLife),
	}
	if form.Track {
		block.TDK, set.TDK = workKey(made[2]), made[2].Key
	}
	encode := block.Encode
	if form.KCVBytes < len(block.PIK.KCV) {
		encode = block.EncodeShort
	}
	answer, err := encode()
	if err != nil {
		return nil, fmt.Errorf("key block: %w", err)
	}
	set.Answer = answer
	return set, nil
}

func workKey(k command.MadeKey) unionpay.WorkKey {
	w := unionpay.WorkKey{Cipher: secret.New(k.UnderMaster)}
	copy(w.KCV[:], k.Key.KCV.Bytes(len(w.KCV)))
	return w
}

// batchFor keeps the terminal's batch over sign-ons; it rises at sign-off.
func (f *flow) batchFor(in *incoming) string {
	if b := f.keys.Batch(in.terminal.ID); b != "" {
		return b
	}
	return firstBatch
}

// signedOn makes the 0810: fields 11 12 13 32 37 39 41 42 60 62 (facts/unionpay.md §3).
func (f *flow) signedOn(in *incoming, set *workset.Set, form profile.SignOn) outgoing {
	// All of it is of the moment when the set was made, so that the same request gets the same bytes.
	_, rrn := txn.HostReference(in.key(in.msg.MTI()), set.MadeAt.In(f.cfg.location).Format(time.RFC3339))
	var note error
	if form.Algorithm == keys.DES {
		f.metrics.singleDES.Inc()
		note = errSingleDES
	}
	return f.plain(in, codeOK, note, func(m *iso.Message) {
		f.stamp(m, set.MadeAt)
		f60 := in.f60
		f60.Batch, f60.Network = set.Batch, form.Answer
		m.Set(iso.Private60, f60.String())
		m.Set(iso.Reference, rrn)
		m.SetBytes(iso.Private62, set.Answer)
	})
}

// signOff handles 0820 with 60.3 002: the keys end at once, and the next sign-on opens the next batch.
func (f *flow) signOff(in *incoming) error {
	f.keys.SignOff(in.terminal.ID)
	return nil
}

// errSingleDES flags the sign-on of an old terminal in the log and among the events; it is served all the same.
var errSingleDES = errors.New("single DES keys: this terminal should be replaced, or moved to tdes or sm4 in the registry")

// messageOf is the message part of a frame, without TPDU and header: what makes two sign-ons the same.
func messageOf(in *incoming) []byte {
	const front = 11 // TPDU 5, header 6
	return in.raw[front+len(in.packet.CallerID):]
}
