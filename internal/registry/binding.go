package registry

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/audit"
)

// Binding says which card sat in which terminal, and when.
type Binding struct {
	ID        int64      `json:"id"`
	PSAM      string     `json:"psam_no"`
	Terminal  string     `json:"terminal_id"`
	ValidFrom time.Time  `json:"valid_from"`
	ValidTo   *time.Time `json:"valid_to,omitempty"` // nil while it is valid
	Reason    string     `json:"reason"`
	Actor     string     `json:"actor"`
}

const bindingColumns = `id, psam_no, terminal_id, valid_from, valid_to, reason, actor`

// Bind puts a card into a terminal and ends the terminal's former binding. A personalised card goes into service by it. A card that
// sits in another terminal, or that is in no state to serve, is a Conflict. The same binding again is no change: created is then
// false.
func (s *Store) Bind(ctx context.Context, actor, terminal, psam, reason string) (b Binding, created bool, err error) {
	if err := errors.Join(checkTerminalID(terminal), checkPSAM(psam), checkText("reason", reason, true)); err != nil {
		return b, false, firstRefusal(err)
	}
	err = s.change(ctx, "bind card "+psam+" to terminal "+terminal, func(tx pgx.Tx) error {
		b, created, err = bind(ctx, tx, actor, terminal, psam, reason)
		return err
	})
	if violates(err, "bindings_one_per_card") { // another request was faster than the look before
		err = boundElsewhere(psam, "another terminal")
	}
	return b, created, err
}

func bind(ctx context.Context, tx pgx.Tx, actor, terminal, psam, reason string) (Binding, bool, error) {
	t, err := lockTerminal(ctx, tx, terminal)
	if err != nil {
		return Binding{}, false, err
	}
	state, err := lockCard(ctx, tx, psam)
	if err != nil {
		return Binding{}, false, err
	}
	current, err := collectOne[Binding](ctx, tx, `SELECT `+bindingColumns+` FROM bindings WHERE psam_no = $1 AND valid_to IS NULL`, psam)
	switch {
	case err == nil && current.Terminal == terminal:
		return current, false, nil
	case err == nil:
		return Binding{}, false, boundElsewhere(psam, "terminal "+current.Terminal)
	case !errors.Is(err, pgx.ErrNoRows):
		return Binding{}, false, err
	}
	if err := mayServe(t, psam, state); err != nil {
		return Binding{}, false, err
	}
	former, err := endBindings(ctx, tx, actor, "terminal_id", terminal, "replaced by "+psam+": "+reason)
	if err != nil {
		return Binding{}, false, err
	}
	b, err := collectOne[Binding](ctx, tx, `INSERT INTO bindings (psam_no, terminal_id, reason, actor, valid_from) VALUES ($1, $2, $3, $4, clock_timestamp()) RETURNING `+bindingColumns, psam, terminal, reason, actor)
	if err != nil {
		return Binding{}, false, err
	}
	facts := map[string]any{"psam_no": psam, "terminal_id": terminal, "reason": reason}
	if len(former) > 0 {
		facts["former_psam_no"] = former[0].PSAM
	}
	if state == cardPersonalised {
		if err := moveCard(ctx, tx, actor, psam, state, cardInService, "bound to terminal "+terminal); err != nil {
			return Binding{}, false, err
		}
	}
	bound := note{event: "bound", actor: actor, detail: facts}
	if err := errors.Join(cardEvent(ctx, tx, psam, bound), terminalEvent(ctx, tx, terminal, bound)); err != nil {
		return Binding{}, false, err
	}
	if err := touch(ctx, tx, "binding", terminal); err != nil {
		return Binding{}, false, err
	}
	return b, true, audit.Append(ctx, tx, actor, "binding.make", "terminal:"+terminal, facts)
}

// mayServe refuses a terminal or a card that is out of service.
func mayServe(t Terminal, psam, cardState string) error {
	if t.State == "retired" || t.State == "lost" {
		return &Refusal{Kind: Conflict, Detail: "terminal " + t.ID + " is " + t.State, NextStep: "bind the card to a terminal that is active or suspended"}
	}
	switch cardState {
	case cardPersonalised, cardInService:
		return nil
	case cardRegistered:
		return &Refusal{Kind: Conflict, Detail: "card " + psam + " is registered, but holds no keys yet", NextStep: "issue it first: issuer card issue --psam " + psam}
	case cardSuspended:
		return &Refusal{Kind: Conflict, Detail: "card " + psam + " is suspended", NextStep: `put it into service first: POST /v1/cards/` + psam + `/state {"state": "in_service", "reason": …}`}
	default:
		return &Refusal{Kind: Conflict, Detail: "card " + psam + " is " + cardState + " and serves no more", NextStep: "issue and bind another card"}
	}
}

func boundElsewhere(psam, place string) error {
	return &Refusal{
		Kind: Conflict, Detail: "card " + psam + " is bound to " + place + " already; a card sits in one terminal only",
		NextStep: "end that binding first: DELETE /v1/terminals/{terminal_id}/card?reason=…, or bind another card",
	}
}

// Unbind takes the card out of a terminal. A terminal without a card is a Conflict.
func (s *Store) Unbind(ctx context.Context, actor, terminal, reason string) (b Binding, err error) {
	if err := errors.Join(checkTerminalID(terminal), checkText("reason", reason, false)); err != nil {
		return b, firstRefusal(err)
	}
	err = s.change(ctx, "unbind terminal "+terminal, func(tx pgx.Tx) error {
		if _, err := lockTerminal(ctx, tx, terminal); err != nil {
			return err
		}
		ended, err := endBindings(ctx, tx, actor, "terminal_id", terminal, reason)
		if err != nil {
			return err
		}
		if len(ended) == 0 {
			return &Refusal{Kind: Conflict, Detail: "terminal " + terminal + " has no card", NextStep: "there is nothing to end; see its history at /v1/terminals/" + terminal + "/bindings"}
		}
		b = ended[0]
		if err := touch(ctx, tx, "binding", terminal); err != nil {
			return err
		}
		return audit.Append(ctx, tx, actor, "binding.end", "terminal:"+terminal, map[string]any{"psam_no": b.PSAM, "reason": reason})
	})
	return b, err
}

// endBindings ends the valid binding of a terminal or a card, with its history on both sides. column is terminal_id or psam_no. The
// caller tells posp and the audit.
func endBindings(ctx context.Context, tx pgx.Tx, actor, column, id, reason string) ([]Binding, error) {
	// The clock may stand before valid_from by the spread of two transactions: now() is when a transaction began.
	ended, err := collect[Binding](ctx, tx, `UPDATE bindings SET valid_to = greatest(clock_timestamp(), valid_from) WHERE `+column+` = $1 AND valid_to IS NULL RETURNING `+bindingColumns, id)
	if err != nil {
		return nil, err
	}
	for _, b := range ended {
		n := note{event: "unbound", actor: actor, detail: map[string]any{"psam_no": b.PSAM, "terminal_id": b.Terminal, "reason": reason}}
		if err := errors.Join(cardEvent(ctx, tx, b.PSAM, n), terminalEvent(ctx, tx, b.Terminal, n)); err != nil {
			return nil, err
		}
	}
	return ended, nil
}

// Bindings reads the newest bindings of a terminal, newest first.
func (s *Store) Bindings(ctx context.Context, terminal string) ([]Binding, error) {
	return collect[Binding](ctx, s.pool, `SELECT `+bindingColumns+` FROM bindings WHERE terminal_id = $1 ORDER BY id DESC LIMIT $2`, terminal, maxHistory)
}

// CardBindings reads the newest bindings of a card, newest first.
func (s *Store) CardBindings(ctx context.Context, psam string) ([]Binding, error) {
	return collect[Binding](ctx, s.pool, `SELECT `+bindingColumns+` FROM bindings WHERE psam_no = $1 ORDER BY id DESC LIMIT $2`, psam, maxHistory)
}
