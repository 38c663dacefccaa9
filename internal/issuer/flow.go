package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/keys"
)

// Issued is the answer to POST /v1/cards.
type Issued struct {
	Run   string     `json:"run_id"`
	PSAM  string     `json:"psam_no"`
	State string     `json:"state"`
	KCV   keys.KCV   `json:"kcv"` // of the terminal master key
	Steps []StepDone `json:"steps"`
}

// StepDone is a step of a run that has come to its end.
type StepDone struct {
	Name   string `json:"name"`
	Result string `json:"result"` // done, or already: an earlier run had done it
}

// request is what is asked for.
type request struct {
	psamNo, orderID, key, actor string
}

// endTimeout bounds the recording of a run's end, which comes also after the run's own time is over.
const endTimeout = 2 * time.Second

// issue personalises one card. Every step is recorded before it is done, and every step finds out by itself whether an earlier run
// has done it, so the same card can be run again after a failure or a crash at any place.
func (a *App) issue(ctx context.Context, req request) (Issued, error) {
	// Step 1: keep other runs away from the card, and find the earlier run of the same idempotency key, which may be all there is to do.
	release, err := a.runs.lock(ctx, req.psamNo)
	if err != nil {
		return Issued{}, err
	}
	defer release()
	earlier, err := a.runs.byKey(ctx, req.key, req.psamNo)
	if err == nil && earlier.State == runPersonalised {
		return a.repeat(ctx, req, earlier)
	}
	if err != nil && !errors.Is(err, errNoRun) {
		return Issued{}, err
	}

	// Step 2: find the signed order.
	o, err := a.findOrder(ctx, req.actor, req.psamNo, req.orderID)
	if err != nil {
		return Issued{}, err
	}

	// Step 3: store the run, before anything changes anywhere.
	run, err := a.runs.begin(ctx, req.key, req.psamNo, o.ID, "register")
	if err != nil {
		return Issued{}, err
	}
	out := Issued{Run: run.ID, PSAM: req.psamNo, State: runPersonalised}
	err = a.personalise(ctx, req, o, &out)

	// Step 11: record the end, with its audit record. A run whose end cannot be recorded has not succeeded.
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if endErr := a.runs.end(endCtx, run, req.actor, err); err == nil {
		err = endErr
	}
	return out, err
}

// personalise is the part of the run that changes registry, key service and card.
func (a *App) personalise(ctx context.Context, req request, o signedOrder, out *Issued) error {
	done := func(name string, already bool) {
		result := "done"
		if already {
			result = "already"
		}
		out.Steps = append(out.Steps, StepDone{name, result})
	}

	// Step 4: register the card; one that is in service, lost or out of use is not written.
	state, err := a.register(ctx, req.actor, req.psamNo)
	if err != nil {
		return err
	}
	if state != "registered" && state != runPersonalised {
		return fmt.Errorf("card %s is %s: %w", req.psamNo, state, errCardState)
	}
	done("register", state == runPersonalised)

	// Step 5: derive the card's keys, through posp.
	if err := a.runs.step(ctx, out.Run, "derive"); err != nil {
		return err
	}
	card, err := a.derive(ctx, req.actor, req.psamNo, o)
	if err != nil {
		return err
	}
	if err := a.runs.state(ctx, out.Run, runDerived); err != nil {
		return err
	}
	done("derive", false)

	// Step 6: connect to the card and check its number.
	if err := a.runs.step(ctx, out.Run, "connect"); err != nil {
		return err
	}
	inReader, err := a.opt.Reader.Connect(ctx, req.psamNo)
	if err != nil {
		return fmt.Errorf("connect: %w: %w", errCardGone, err)
	}
	defer func() { _ = inReader.Close() }() // the card has nothing more to tell
	c := chip{inReader}
	if err := c.checkNumber(ctx, req.psamNo); err != nil {
		return err
	}
	done("connect", false)

	// The cipher of the card is the order's: the key service has derived control keys of that one alone.
	cipher, master := card.cipher(), masterKey
	if cipher == keys.SM4 {
		master = masterKeySM4
	}

	// Step 7: write the keys, each under the one before: challenge, script through posp, WRITE KEY.
	for _, w := range []struct {
		target
		name  string
		usage keys.Usage
	}{
		{cardControl, "PSAM:" + req.psamNo, keys.CardControl}, {appControl, "PSAM:" + req.psamNo + ":ACK", keys.CardControl},
		{master, "PSAM:" + req.psamNo, keys.TerminalMaster},
	} {
		kcv, err := card.find(w.name, w.usage, cipher)
		if err != nil {
			return err
		}
		if err := a.runs.step(ctx, out.Run, w.step); err != nil {
			return err
		}
		already, err := c.write(ctx, w.target, kcv, a.script(req.actor, req.psamNo, o))
		if err != nil {
			return err
		}
		done(w.step, already)
		out.KCV = kcv
	}
	if err := a.runs.state(ctx, out.Run, runWritten); err != nil {
		return err
	}

	// Step 8: verify: the card's own check value of the master key must be the key service's.
	if err := a.runs.step(ctx, out.Run, "verify"); err != nil {
		return err
	}
	held, err := c.holds(ctx, master, out.KCV)
	if err != nil {
		return err
	}
	if !held {
		return fmt.Errorf("verify: %w: its master key has not the check value of the key service; take the card out of use", errCardRefuses)
	}

	// Step 9: record that the card is verified.
	if err := a.runs.state(ctx, out.Run, runVerified); err != nil {
		return err
	}
	done("verify", false)

	// Step 10: mark the card personalised in the registry.
	if err := a.runs.step(ctx, out.Run, "mark"); err != nil {
		return err
	}
	if state != runPersonalised {
		if err := a.markPersonalised(ctx, req.actor, req.psamNo, out.Run); err != nil {
			return err
		}
	}
	done("mark", state == runPersonalised)
	return nil
}

// errCardState says that the registry does not allow the card to be written.
var errCardState = errors.New("such a card is not issued")

// repeat answers for a run that had come to its end: the same again, without steps.
func (a *App) repeat(ctx context.Context, req request, earlier Run) (Issued, error) {
	var card cardKeys
	if err := a.posp.call(ctx, req.actor, "GET", "/v1/cards/"+req.psamNo, "", nil, &card); err != nil {
		return Issued{}, err
	}
	kcv, err := card.find("PSAM:"+req.psamNo, keys.TerminalMaster, card.cipher())
	if err != nil {
		return Issued{}, err
	}
	return Issued{Run: earlier.ID, PSAM: req.psamNo, State: earlier.State, KCV: kcv, Steps: []StepDone{}}, nil
}
