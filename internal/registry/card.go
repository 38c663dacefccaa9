package registry

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/audit"
)

// Card is a PSAM card as registered.
type Card struct {
	PSAM      string    `json:"psam_no"` // 20 digits
	State     string    `json:"state"`   // see CardStates
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Terminal  string    `json:"terminal_id,omitempty"` // where it sits now
	KCV       string    `json:"kcv,omitempty"`         // check value of its newest active master key
	KeyState  string    `json:"key_state,omitempty"`   // state of its newest master key
}

// cardSQL reads cards with place and key; the caller adds WHERE and ORDER.
const cardSQL = `
SELECT c.psam_no, c.state, c.created_at, c.updated_at, coalesce(b.terminal_id, ''), coalesce(k.kcv, ''), coalesce(k.state, '')
  FROM cards c
  LEFT JOIN bindings b ON b.psam_no = c.psam_no AND b.valid_to IS NULL
  LEFT JOIN LATERAL (SELECT kcv, state FROM keys k WHERE k.name = 'PSAM:' || c.psam_no AND k.usage = 'tmk'
                      ORDER BY (k.state = 'active') DESC, k.version DESC, k.algorithm LIMIT 1) k ON true`

// AddCard registers a card. One that is registered already stays as it is: created is then false.
func (s *Store) AddCard(ctx context.Context, actor, psam string) (c Card, created bool, err error) {
	if err := checkPSAM(psam); err != nil {
		return c, false, err
	}
	err = s.change(ctx, "register card "+psam, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO cards (psam_no) VALUES ($1) ON CONFLICT DO NOTHING`, psam)
		if err != nil {
			return err
		}
		if created = tag.RowsAffected() == 1; !created {
			return nil
		}
		if err := cardEvent(ctx, tx, psam, note{event: "registered", to: cardRegistered, actor: actor}); err != nil {
			return err
		}
		return audit.Append(ctx, tx, actor, "card.register", "card:"+psam, nil)
	})
	if err != nil {
		return c, false, err
	}
	c, err = s.Card(ctx, psam)
	return c, created, err
}

// SetCardState moves a card to another state. A lost, retired or destroyed card gives its terminal up; the terminal reads its row
// again.
func (s *Store) SetCardState(ctx context.Context, actor, psam, state, reason string) (Card, error) {
	if err := errors.Join(checkPSAM(psam), oneOf("state", state, CardStates()...), checkText("reason", reason, false)); err != nil {
		return Card{}, firstRefusal(err)
	}
	err := s.change(ctx, "set the state of card "+psam, func(tx pgx.Tx) error {
		from, err := lockCard(ctx, tx, psam)
		if err != nil || from == state {
			return err // also the same request again
		}
		if err := checkMove(cardMoves, "card "+psam, from, state); err != nil {
			return err
		}
		terminals, err := collectTexts(ctx, tx, `SELECT terminal_id FROM bindings WHERE psam_no = $1 AND valid_to IS NULL`, psam)
		if err != nil {
			return err
		}
		if err := moveCard(ctx, tx, actor, psam, from, state, reason); err != nil {
			return err
		}
		facts := map[string]any{"from": from, "to": state, "reason": reason}
		if endsBinding(state) {
			ended, err := endBindings(ctx, tx, actor, "psam_no", psam, "card "+state+": "+reason)
			if err != nil {
				return err
			}
			if len(ended) > 0 {
				facts["unbound_terminal"] = ended[0].Terminal
			}
		}
		if err := touch(ctx, tx, "card", terminals...); err != nil {
			return err
		}
		return audit.Append(ctx, tx, actor, "card.state", "card:"+psam, facts)
	})
	if err != nil {
		return Card{}, err
	}
	return s.Card(ctx, psam)
}

// lockCard reads the state of a card and keeps others from changing it until the commit.
func lockCard(ctx context.Context, tx pgx.Tx, psam string) (state string, err error) {
	err = tx.QueryRow(ctx, `SELECT state FROM cards WHERE psam_no = $1 FOR NO KEY UPDATE`, psam).Scan(&state)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", noCard(psam)
	}
	return state, err
}

func noCard(psam string) error {
	return &Refusal{Kind: NotFound, Detail: "card " + shown(psam) + " is not registered", NextStep: "register it with POST /v1/cards, or issue it: issuer card issue --psam …"}
}

// moveCard writes the state and the history of a locked card.
func moveCard(ctx context.Context, tx pgx.Tx, actor, psam, from, to, reason string) error {
	if _, err := tx.Exec(ctx, `UPDATE cards SET state = $2, updated_at = now() WHERE psam_no = $1`, psam, to); err != nil {
		return err
	}
	event := to
	if from == cardSuspended && to == cardInService {
		event = "resumed"
	}
	return cardEvent(ctx, tx, psam, note{event: event, from: from, to: to, actor: actor, detail: map[string]any{"reason": reason}})
}

// Card reads one.
func (s *Store) Card(ctx context.Context, psam string) (Card, error) {
	c, err := collectOne[Card](ctx, s.pool, cardSQL+` WHERE c.psam_no = $1`, psam)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, noCard(psam)
	}
	return c, wrap("read card", err)
}

// Cards reads a page in the order of the numbers; an empty state means all.
func (s *Store) Cards(ctx context.Context, state string, p Page) ([]Card, error) {
	return collect[Card](ctx, s.pool, cardSQL+` WHERE c.psam_no > $1 AND ($2 = '' OR c.state = $2) ORDER BY c.psam_no LIMIT $3`, p.After, state, p.limit())
}

// CardEvents reads the newest events of a card, newest first.
func (s *Store) CardEvents(ctx context.Context, psam string) ([]Event, error) {
	return s.events(ctx, "card_events", "psam_no", psam)
}
