package registry

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/audit"
)

// Terminal is a POS terminal as registered.
type Terminal struct {
	ID         string    `json:"terminal_id"` // 8 letters and digits, field 41
	MerchantID string    `json:"merchant_id"`
	State      string    `json:"state"` // active, suspended, lost, retired
	Profile    string    `json:"profile"`
	Algorithm  string    `json:"algorithm"`  // des, tdes, sm4
	MAKLength  int       `json:"mak_length"` // bytes: 8 or 16
	KeyLoad    string    `json:"key_load"`
	Test       bool      `json:"test"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// TerminalChange is what a terminal shall be. Members left out keep their value, or take the default for a new terminal.
type TerminalChange struct {
	MerchantID string  `json:"merchant_id"`
	Algorithm  *string `json:"algorithm,omitempty"`  // default tdes
	MAKLength  *int    `json:"mak_length,omitempty"` // default 8
	Test       *bool   `json:"test,omitempty"`       // default false
	Profile    *string `json:"profile,omitempty"`    // default unionpay; a name that posp's configuration has (docs/profiles.md)
}

// profileName is the form of a profile's name. Which profiles there are is a matter of posp's configuration.
var profileName = regexp.MustCompile(`^[a-z][a-z0-9.-]{0,31}$`)

func checkProfile(name string) error {
	if profileName.MatchString(name) {
		return nil
	}
	return &Refusal{
		Kind: Invalid, Detail: "profile must be 1 to 32 characters of a-z, 0-9, '.' and '-', beginning with a letter",
		NextStep: "name a profile that posp has, for example unionpay",
	}
}

const terminalColumns = `terminal_id, merchant_id, state, profile, algorithm, mak_length, key_load, test, created_at, updated_at`

func (c TerminalChange) check() error {
	errs := []error{checkMerchantID(c.MerchantID)}
	if c.Algorithm != nil {
		errs = append(errs, oneOf("algorithm", *c.Algorithm, "des", "tdes", "sm4"))
	}
	if c.MAKLength != nil && *c.MAKLength != 8 && *c.MAKLength != 16 {
		errs = append(errs, &Refusal{Kind: Invalid, Detail: "mak_length must be 8 or 16", NextStep: "correct it and send the request again"})
	}
	if c.Profile != nil {
		errs = append(errs, checkProfile(*c.Profile))
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// PutTerminal registers or changes a terminal. Its merchant must be registered; a retired terminal stays as it is.
func (s *Store) PutTerminal(ctx context.Context, actor, id string, c TerminalChange) (t Terminal, created bool, err error) {
	if err := checkTerminalID(id); err != nil {
		return t, false, err
	}
	if err := c.check(); err != nil {
		return t, false, err
	}
	err = s.change(ctx, "put terminal "+id, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
INSERT INTO terminals (terminal_id, merchant_id, algorithm, mak_length, test, profile)
VALUES ($1, $2, coalesce($3, 'tdes'), coalesce($4, 8), coalesce($5, false), coalesce($6, 'unionpay')) ON CONFLICT DO NOTHING`,
			id, c.MerchantID, c.Algorithm, c.MAKLength, c.Test, c.Profile)
		if err != nil {
			return err
		}
		if t, err = lockTerminal(ctx, tx, id); err != nil {
			return err
		}
		if created = tag.RowsAffected() == 1; !created {
			return changeTerminal(ctx, tx, actor, &t, c)
		}
		facts := map[string]any{"merchant_id": t.MerchantID, "algorithm": t.Algorithm, "mak_length": t.MAKLength, "test": t.Test}
		if err := terminalEvent(ctx, tx, id, note{event: "registered", to: t.State, actor: actor, detail: facts}); err != nil {
			return err
		}
		if err := touch(ctx, tx, "terminal", id); err != nil {
			return err
		}
		return audit.Append(ctx, tx, actor, "terminal.register", "terminal:"+id, facts)
	})
	if violates(err, "terminals_merchant_id_fkey") {
		err = &Refusal{
			Kind: Conflict, Detail: "merchant " + c.MerchantID + " is not registered",
			NextStep: "register it first: PUT /v1/merchants/" + c.MerchantID + ` {"name": …}`,
		}
	}
	return t, created, err
}

// lockTerminal reads a row and keeps others from changing it until the commit.
func lockTerminal(ctx context.Context, tx pgx.Tx, id string) (Terminal, error) {
	t, err := collectOne[Terminal](ctx, tx, `SELECT `+terminalColumns+` FROM terminals WHERE terminal_id = $1 FOR NO KEY UPDATE`, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, noTerminal(id)
	}
	return t, err
}

func noTerminal(id string) error {
	return &Refusal{Kind: NotFound, Detail: "terminal " + shown(id) + " is not registered", NextStep: "register it with PUT /v1/terminals/{terminal_id}"}
}

// changeTerminal brings a locked row to the new values.
func changeTerminal(ctx context.Context, tx pgx.Tx, actor string, t *Terminal, c TerminalChange) error {
	facts := map[string]any{}
	next := *t
	set := func(name string, differs bool, from, to any) {
		if differs {
			facts[name], facts["former_"+name] = to, from
		}
	}
	set("merchant_id", c.MerchantID != t.MerchantID, t.MerchantID, c.MerchantID)
	next.MerchantID = c.MerchantID
	if c.Algorithm != nil {
		set("algorithm", *c.Algorithm != t.Algorithm, t.Algorithm, *c.Algorithm)
		next.Algorithm = *c.Algorithm
	}
	if c.MAKLength != nil {
		set("mak_length", *c.MAKLength != t.MAKLength, t.MAKLength, *c.MAKLength)
		next.MAKLength = *c.MAKLength
	}
	if c.Test != nil {
		set("test", *c.Test != t.Test, t.Test, *c.Test)
		next.Test = *c.Test
	}
	if c.Profile != nil {
		set("profile", *c.Profile != t.Profile, t.Profile, *c.Profile)
		next.Profile = *c.Profile
	}
	if len(facts) == 0 {
		return nil
	}
	if t.State == "retired" {
		return &Refusal{Kind: Conflict, Detail: "terminal " + t.ID + " is retired and stays as it is", NextStep: "register another terminal number"}
	}
	var err error
	*t, err = collectOne[Terminal](ctx, tx, `UPDATE terminals SET merchant_id = $2, algorithm = $3, mak_length = $4, test = $5, profile = $6, updated_at = now()
		WHERE terminal_id = $1 RETURNING `+terminalColumns, t.ID, next.MerchantID, next.Algorithm, next.MAKLength, next.Test, next.Profile)
	if err != nil {
		return err
	}
	if err := terminalEvent(ctx, tx, t.ID, note{event: "changed", actor: actor, detail: facts}); err != nil {
		return err
	}
	if err := touch(ctx, tx, "terminal", t.ID); err != nil {
		return err
	}
	return audit.Append(ctx, tx, actor, "terminal.change", "terminal:"+t.ID, facts)
}

// SetTerminalState moves a terminal to another state. A lost or retired terminal gives its card up.
func (s *Store) SetTerminalState(ctx context.Context, actor, id, state, reason string) (t Terminal, err error) {
	if err := errors.Join(checkTerminalID(id), oneOf("state", state, TerminalStates()...), checkText("reason", reason, false)); err != nil {
		return t, firstRefusal(err)
	}
	err = s.change(ctx, "set the state of terminal "+id, func(tx pgx.Tx) error {
		if t, err = lockTerminal(ctx, tx, id); err != nil {
			return err
		}
		if t.State == state { // the same request again
			return nil
		}
		if err := checkMove(terminalMoves, "terminal "+id, t.State, state); err != nil {
			return err
		}
		from := t.State
		if t, err = collectOne[Terminal](ctx, tx, `UPDATE terminals SET state = $2, updated_at = now() WHERE terminal_id = $1 RETURNING `+terminalColumns, id, state); err != nil {
			return err
		}
		event := map[string]string{active: "resumed"}[state]
		if event == "" {
			event = state
		}
		if err := terminalEvent(ctx, tx, id, note{event: event, from: from, to: state, actor: actor, detail: map[string]any{"reason": reason}}); err != nil {
			return err
		}
		facts := map[string]any{"from": from, "to": state, "reason": reason}
		if endsBinding(state) {
			ended, err := endBindings(ctx, tx, actor, "terminal_id", id, "terminal "+state+": "+reason)
			if err != nil {
				return err
			}
			if len(ended) > 0 {
				facts["unbound_card"] = ended[0].PSAM
			}
		}
		if err := touch(ctx, tx, "terminal", id); err != nil {
			return err
		}
		return audit.Append(ctx, tx, actor, "terminal.state", "terminal:"+id, facts)
	})
	return t, err
}

// TerminalEvents reads the newest events of a terminal, newest first.
func (s *Store) TerminalEvents(ctx context.Context, id string) ([]Event, error) {
	return s.events(ctx, "terminal_events", "terminal_id", id)
}

// firstRefusal keeps one fault of several: one thing to correct at a time reads better than a list joined by line ends.
func firstRefusal(err error) error {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	return err
}

// escapeLike makes a text harmless inside LIKE.
func escapeLike(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}
