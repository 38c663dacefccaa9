package registry

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// KeyState says what became of the working keys that a terminal got.
type KeyState string

// The key states, the best first.
const (
	KeysInUse    KeyState = "in_use"  // signed on, and a message verified with the keys
	KeysUnused   KeyState = "pending" // signed on, but no message came with the keys yet
	KeysOver     KeyState = "over"    // signed on once; the keys ended or expired
	NeverSignsOn KeyState = "never"   // never signed on
)

// View is a terminal with all that an operator asks of it first. It shows check values and no cryptogram.
type View struct {
	Terminal
	MerchantName  string     `json:"merchant_name"`
	MerchantState string     `json:"merchant_state"`
	PSAM          string     `json:"psam_no,omitempty"`
	CardState     string     `json:"card_state,omitempty"`
	KCV           string     `json:"kcv,omitempty"`            // of the card's active master key
	KeyState      KeyState   `json:"key_state"`                // of the working keys
	LastSignOn    *time.Time `json:"last_sign_on,omitempty"`   // nil when it never signed on
	LastUse       *time.Time `json:"last_first_use,omitempty"` // when the newest used keys were first used
	UnusedSignOns int        `json:"unused_sign_ons"`          // sign-ons of the last 10 minutes whose keys were not used
	Looping       bool       `json:"looping"`                  // signs on again and again and never uses its keys (row P7)
}

// Filter chooses terminals. Empty members choose all.
type Filter struct {
	Text     string // part of the terminal's, merchant's or card's number or of the merchant's name
	State    string // of the terminal
	Merchant string // number, exactly
	Keys     KeyState
	Looping  bool
	Page
}

// How a terminal is found to loop (row P7): with a card of the wrong master key each sign-on is answered, and no message with
// working keys ever follows. A healthy terminal signs on a few times a day.
const viewSQL = `
SELECT t.terminal_id, t.merchant_id, t.state, t.profile, t.algorithm, t.mak_length, t.key_load, t.test, t.created_at, t.updated_at,
       m.name, m.state, coalesce(b.psam_no, ''), coalesce(c.state, ''), coalesce(k.kcv, ''),
       CASE WHEN s.in_use THEN 'in_use' WHEN s.pending THEN 'pending' WHEN s.last_at IS NOT NULL THEN 'over' ELSE 'never' END,
       s.last_at, s.last_use, coalesce(s.unused, 0), coalesce(s.unused >= 3 AND s.used = 0, false)
  FROM terminals t
  JOIN merchants m ON m.merchant_id = t.merchant_id
  LEFT JOIN bindings b ON b.terminal_id = t.terminal_id AND b.valid_to IS NULL
  LEFT JOIN cards c ON c.psam_no = b.psam_no
  LEFT JOIN LATERAL (
       SELECT kcv FROM keys k
        WHERE k.name = 'PSAM:' || b.psam_no AND k.usage = 'tmk' AND k.state = 'active'
          AND k.algorithm = CASE t.algorithm WHEN 'sm4' THEN 'sm4' ELSE 'tdes' END
        ORDER BY k.version DESC LIMIT 1) k ON true
  LEFT JOIN LATERAL (
       SELECT max(made_at) AS last_at, max(first_used_at) AS last_use, bool_or(state = 'active' AND coalesce(first_used_at, made_at) > now() - interval '24 hours') AS in_use,
              bool_or(state = 'pending' AND expires_at > now()) AS pending,
              count(*) FILTER (WHERE made_at > now() - interval '10 minutes' AND state IN ('pending', 'expired') AND first_used_at IS NULL)::int AS unused,
              count(*) FILTER (WHERE first_used_at > now() - interval '10 minutes')::int AS used
         FROM (SELECT * FROM terminal_sign_ons o WHERE o.terminal_id = t.terminal_id ORDER BY version DESC LIMIT 1000) newest) s ON true`

// Terminal reads one.
func (s *Store) Terminal(ctx context.Context, id string) (View, error) {
	v, err := collectOne[View](ctx, s.pool, viewSQL+` WHERE t.terminal_id = $1`, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, noTerminal(id)
	}
	return v, wrap("read terminal", err)
}

// Terminals reads a page in the order of the numbers.
func (s *Store) Terminals(ctx context.Context, f Filter) ([]View, error) {
	like := ""
	if f.Text != "" {
		like = "%" + escapeLike(f.Text) + "%"
	}
	return collect[View](ctx, s.pool, viewSQL+`
 WHERE t.terminal_id > $1 AND ($2 = '' OR t.state = $2) AND ($3 = '' OR t.merchant_id = $3)
   AND ($4 = '' OR t.terminal_id ILIKE $4 OR t.merchant_id ILIKE $4 OR m.name ILIKE $4 OR b.psam_no LIKE $4)
   AND ($5 = '' OR $5 = CASE WHEN s.in_use THEN 'in_use' WHEN s.pending THEN 'pending' WHEN s.last_at IS NOT NULL THEN 'over' ELSE 'never' END)
   AND (NOT $6 OR coalesce(s.unused >= 3 AND s.used = 0, false))
 ORDER BY t.terminal_id LIMIT $7`, f.After, f.State, f.Merchant, like, string(f.Keys), f.Looping, f.limit())
}

// SignOn is one sign-on of a terminal, without any cryptogram.
type SignOn struct {
	Version   int64      `json:"version"`
	State     string     `json:"state"` // pending, active, grace, ended, expired
	Algorithm string     `json:"algorithm"`
	PSAM      string     `json:"psam_no,omitempty"`
	PIKKCV    string     `json:"pik_kcv"`
	MAKKCV    string     `json:"mak_kcv"`
	TDKKCV    string     `json:"tdk_kcv,omitempty"`
	MadeAt    time.Time  `json:"made_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	UsedAt    *time.Time `json:"first_used_at,omitempty"`
	EndsAt    *time.Time `json:"ends_at,omitempty"`
}

// SignOns reads the newest sign-ons of a terminal, newest first. posp writes that a pending set expired only when it looks at it
// next, so a set past its time is shown as expired here.
func (s *Store) SignOns(ctx context.Context, terminal string) ([]SignOn, error) {
	return collect[SignOn](ctx, s.pool, `
SELECT version, CASE WHEN state = 'pending' AND expires_at <= now() THEN 'expired' ELSE state END, algorithm, coalesce(psam_no, ''),
       pik_kcv, mak_kcv, coalesce(tdk_kcv, ''), made_at, expires_at, first_used_at, ends_at
  FROM terminal_sign_ons WHERE terminal_id = $1 ORDER BY version DESC LIMIT $2`, terminal, maxHistory)
}

// Hours is the length of the chart.
const Hours = 24

// Overview counts the terminals, for the top of the console.
type Overview struct {
	Registered int        `json:"registered"`
	Active     int        `json:"active"`    // terminal and merchant active
	SignedOn   int        `json:"signed_on"` // working keys in use or pending
	Never      int        `json:"never"`     // never signed on
	Looping    int        `json:"looping"`
	SignOns    [Hours]int `json:"sign_ons_per_hour"` // the last 24 hours, the present one last
}

// Overview counts now.
func (s *Store) Overview(ctx context.Context) (Overview, error) {
	var o Overview
	err := s.pool.QueryRow(ctx, `
WITH recent AS (
     SELECT terminal_id, count(*) FILTER (WHERE made_at > now() - interval '10 minutes' AND state IN ('pending', 'expired') AND first_used_at IS NULL) AS unused,
            count(*) FILTER (WHERE first_used_at > now() - interval '10 minutes') AS used,
            bool_or(state = 'active' AND coalesce(first_used_at, made_at) > now() - interval '24 hours' OR state = 'pending' AND expires_at > now()) AS signed_on
       FROM terminal_sign_ons GROUP BY terminal_id)
SELECT count(*), count(*) FILTER (WHERE t.state = 'active' AND m.state = 'active'), count(*) FILTER (WHERE r.signed_on),
       count(*) FILTER (WHERE r.terminal_id IS NULL), count(*) FILTER (WHERE r.unused >= 3 AND r.used = 0)
  FROM terminals t JOIN merchants m ON m.merchant_id = t.merchant_id LEFT JOIN recent r ON r.terminal_id = t.terminal_id`).
		Scan(&o.Registered, &o.Active, &o.SignedOn, &o.Never, &o.Looping)
	if err != nil {
		return o, wrap("count terminals", err)
	}
	rows, err := s.pool.Query(ctx, `
SELECT floor(extract(epoch FROM now() - made_at) / 3600)::int AS ago, count(*)::int FROM terminal_sign_ons
 WHERE made_at > now() - interval '24 hours' GROUP BY 1`)
	if err != nil {
		return o, wrap("count sign-ons", err)
	}
	var ago, n int
	_, err = pgx.ForEachRow(rows, []any{&ago, &n}, func() error {
		if ago = max(ago, 0); ago < Hours { // posp's clock may be ahead of the database's
			o.SignOns[Hours-1-ago] += n
		}
		return nil
	})
	return o, wrap("count sign-ons", err)
}
