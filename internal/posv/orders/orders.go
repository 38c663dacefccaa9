// Package orders keeps the orders to issue cards from draft to signature: two different people approve an order, then it is signed
// with the registry's key, and only the signature counts at the key service (row P1). What was approved is what is signed: the
// database gives posv no right to change an order's range, author or expiry.
package orders

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/audit"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/registry"
	"github.com/keyward/keyward/keys"
)

const (
	// approvalsNeeded is how many different people approve an order before it is signed.
	approvalsNeeded = 2
	// maxLife bounds an order: whoever steals a signed one must not have it for years.
	maxLife = 366 * 24 * time.Hour
	// maxReason bounds the reason of a withdrawal in bytes: a line on a screen.
	maxReason = 200
)

// States of an order. Expired is not stored: it is what a draft or signed order becomes with time.
const (
	draft     = "draft"
	signed    = "signed"
	withdrawn = "withdrawn"
	expired   = "expired"
)

// Order is an order as people see it.
type Order struct {
	ID         string    `json:"order_id"` // UUID
	Author     string    `json:"author"`
	PSAMFrom   string    `json:"psam_from"` // 20 digits
	Count      int       `json:"count"`
	Algorithms []string  `json:"algorithms"` // tdes, sm4
	ExpiresAt  time.Time `json:"expires_at"`
	State      string    `json:"state"` // draft, signed, withdrawn, expired
	Document   []byte    `json:"document,omitempty"`
	Signature  []byte    `json:"signature,omitempty"` // over document
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	Approvers  []string  `json:"approvers"` // in the order of their approvals
	Used       int       `json:"used"`      // cards that the key service derived keys for under this order
	Needed     int       `json:"approvals_needed"`
}

// Draft is what an author asks for.
type Draft struct {
	PSAMFrom   string    `json:"psam_from"`
	Count      int       `json:"count"`
	Algorithms []string  `json:"algorithms"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// Filter chooses orders. Empty members choose all.
type Filter struct {
	PSAM  string // covered by the order
	State string // as shown: a signed order whose time is over is expired
	registry.Page
}

// Store keeps the orders in posv's database.
type Store struct {
	pool *pgxpool.Pool
	key  ed25519.PrivateKey
}

// New makes a store. key signs approved orders.
func New(pool *pgxpool.Pool, key ed25519.PrivateKey) *Store { return &Store{pool: pool, key: key} }

const selectSQL = `
SELECT o.order_id::text, o.author, o.psam_from, o.count, o.algorithms, o.expires_at,
       CASE WHEN o.state <> 'withdrawn' AND o.expires_at <= now() THEN 'expired' ELSE o.state END, o.document, o.signature, o.created_at, o.updated_at,
       coalesce((SELECT array_agg(a.approver ORDER BY a.at, a.approver) FROM order_approvals a WHERE a.order_id = o.order_id), '{}'),
       (SELECT count(*)::int FROM issue_order_cards c WHERE c.order_id = o.order_id), 0
  FROM orders o`

// Create stores a draft. Nobody has approved it yet, the author included.
func (s *Store) Create(ctx context.Context, actor string, d Draft) (Order, error) {
	if err := d.check(actor); err != nil {
		return Order{}, err
	}
	id := newID()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO orders (order_id, author, psam_from, count, algorithms, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			id, actor, d.PSAMFrom, d.Count, d.Algorithms, d.ExpiresAt.UTC().Truncate(time.Second))
		if err != nil {
			return fmt.Errorf("store the order: %w", err)
		}
		return audit.Append(ctx, tx, actor, "order.create", "order:"+id, map[string]any{
			"psam_from": d.PSAMFrom, "count": d.Count, "algorithms": d.Algorithms, "expires_at": d.ExpiresAt.UTC().Format(time.RFC3339),
		})
	})
	if err != nil {
		return Order{}, err
	}
	return s.Get(ctx, id)
}

// check uses the rules of the signed document, so that nothing is approved that could not be signed.
func (d Draft) check(author string) error {
	invalid := func(detail string) error {
		return &registry.Refusal{Kind: registry.Invalid, Detail: detail, NextStep: "correct the order and send it again"}
	}
	o := order.Order{
		ID: newID(), PSAMFrom: d.PSAMFrom, Count: d.Count, ExpiresAt: d.ExpiresAt.UTC().Truncate(time.Second),
		Author: author, Approvers: []string{"first", "second"}, // stand for those to come
	}
	for _, name := range d.Algorithms {
		a, err := keys.ParseAlgorithm(name)
		if err != nil {
			return invalid("algorithms may be tdes and sm4")
		}
		o.Algorithms = append(o.Algorithms, a)
	}
	if err := o.Validate(); err != nil {
		return invalid(err.Error())
	}
	if now := time.Now(); !o.ExpiresAt.After(now) || o.ExpiresAt.After(now.Add(maxLife)) {
		return invalid("expires_at must be in the future, within 366 days")
	}
	return nil
}

// Approve notes that actor approves the order; the second person's approval signs it. The same person's second approval counts
// once.
func (s *Store) Approve(ctx context.Context, actor, id string) (Order, error) {
	var o Order
	err := s.locked(ctx, id, func(tx pgx.Tx, before Order) (err error) {
		for _, a := range before.Approvers {
			if a == actor {
				o = before
				return nil
			}
		}
		if before.State != draft {
			return conflict(before, "approved", "make a new order")
		}
		if _, err := tx.Exec(ctx, `INSERT INTO order_approvals (order_id, approver, at) VALUES ($1, $2, clock_timestamp())`, id, actor); err != nil {
			return fmt.Errorf("store the approval: %w", err)
		}
		if o, err = read(ctx, tx, id); err != nil {
			return err
		}
		if len(o.Approvers) >= approvalsNeeded {
			if o, err = s.sign(ctx, tx, o); err != nil {
				return err
			}
		}
		if err := audit.Append(ctx, tx, actor, "order.approve", "order:"+id, map[string]any{"approvers": o.Approvers}); err != nil {
			return err
		}
		if o.State != signed {
			return nil
		}
		return audit.Append(ctx, tx, actor, "order.sign", "order:"+id, map[string]any{"approvers": o.Approvers})
	})
	return o, err
}

// sign makes the document of an order with enough approvals.
func (s *Store) sign(ctx context.Context, tx pgx.Tx, o Order) (Order, error) {
	doc := order.Order{ID: o.ID, PSAMFrom: o.PSAMFrom, Count: o.Count, ExpiresAt: o.ExpiresAt, Author: o.Author, Approvers: o.Approvers}
	for _, name := range o.Algorithms {
		a, err := keys.ParseAlgorithm(name)
		if err != nil {
			return o, fmt.Errorf("order %s: %w", o.ID, err)
		}
		doc.Algorithms = append(doc.Algorithms, a)
	}
	out, err := doc.Sign(s.key)
	if err != nil {
		return o, err
	}
	if _, err := tx.Exec(ctx, `UPDATE orders SET state = 'signed', document = $2, signature = $3, updated_at = now() WHERE order_id = $1`, o.ID, out.Document, out.Signature); err != nil {
		return o, fmt.Errorf("store the signature: %w", err)
	}
	return read(ctx, tx, o.ID)
}

// Withdraw takes an order back: it is offered to nobody any more. A document that was signed and handed out before stays valid
// until it expires, because the key service checks nothing but the signature.
func (s *Store) Withdraw(ctx context.Context, actor, id, reason string) (Order, error) {
	if reason == "" || len(reason) > maxReason || strings.ContainsFunc(reason, unicode.IsControl) {
		return Order{}, &registry.Refusal{Kind: registry.Invalid, Detail: "reason must be one line of 1 to 200 bytes", NextStep: "say why the order is taken back"}
	}
	var o Order
	err := s.locked(ctx, id, func(tx pgx.Tx, before Order) (err error) {
		if o = before; before.State == withdrawn {
			return nil
		}
		if before.State == expired {
			return conflict(before, "withdrawn", "nothing needs to be done: nobody can use it")
		}
		if _, err := tx.Exec(ctx, `UPDATE orders SET state = 'withdrawn', updated_at = now() WHERE order_id = $1`, id); err != nil {
			return fmt.Errorf("withdraw the order: %w", err)
		}
		if o, err = read(ctx, tx, id); err != nil {
			return err
		}
		return audit.Append(ctx, tx, actor, "order.withdraw", "order:"+id, map[string]any{"former_state": before.State, "reason": reason})
	})
	return o, err
}

// locked runs a change of one order.
func (s *Store) locked(ctx context.Context, id string, do func(tx pgx.Tx, before Order) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if isUUID(id) {
			if _, err := tx.Exec(ctx, `SELECT FROM orders WHERE order_id = $1 FOR NO KEY UPDATE`, id); err != nil {
				return fmt.Errorf("lock the order: %w", err)
			}
		}
		before, err := read(ctx, tx, id)
		if err != nil {
			return err
		}
		return do(tx, before)
	})
}

func conflict(o Order, what, next string) error {
	return &registry.Refusal{Kind: registry.Conflict, Detail: "order " + o.ID + " is " + o.State + " and cannot be " + what, NextStep: next}
}

// Get reads one order.
func (s *Store) Get(ctx context.Context, id string) (Order, error) { return read(ctx, s.pool, id) }

// List reads a page, the newest first. Filter.After is the number of the last order seen.
func (s *Store) List(ctx context.Context, f Filter) ([]Order, error) {
	if f.Limit < 1 || f.Limit > registry.MaxPage {
		f.Limit = registry.MaxPage
	}
	if f.After != "" && !isUUID(f.After) {
		return nil, &registry.Refusal{Kind: registry.Invalid, Detail: "after is not the number of an order", NextStep: "use the member next of the page before"}
	}
	rows, err := s.pool.Query(ctx, `SELECT * FROM (`+selectSQL+`
 WHERE $1 = '' OR $1::numeric BETWEEN o.psam_from::numeric AND o.psam_from::numeric + o.count - 1) l (id, author, psam_from, count, algorithms, expires_at, state, document, signature, created_at, updated_at, approvers, used, needed)
 WHERE ($2 = '' OR state = $2)
   AND ($3 = '' OR (created_at, id) < (SELECT p.created_at, p.order_id::text FROM orders p WHERE p.order_id = nullif($3, '')::uuid))
 ORDER BY created_at DESC, id DESC LIMIT $4`, psamOrZero(f.PSAM), f.State, f.After, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("read orders: %w", err)
	}
	list, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read orders: %w", err)
	}
	return list, nil
}

// psamOrZero keeps what is no number away from the cast: 0 is covered by no order of a person.
func psamOrZero(no string) string {
	for i := range len(no) {
		if no[i] < '0' || no[i] > '9' || i >= 20 {
			return "0"
		}
	}
	return no
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func read(ctx context.Context, q querier, id string) (Order, error) {
	missing := &registry.Refusal{Kind: registry.NotFound, Detail: "there is no such order", NextStep: "see GET /v1/orders, or make one with POST /v1/orders"}
	if !isUUID(id) {
		return Order{}, missing
	}
	rows, err := q.Query(ctx, selectSQL+` WHERE o.order_id = $1`, id)
	if err != nil {
		return Order{}, fmt.Errorf("read the order: %w", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, missing
	}
	if err != nil {
		return o, fmt.Errorf("read the order: %w", err)
	}
	return o, nil
}

func scan(row pgx.CollectableRow) (Order, error) {
	o, err := pgx.RowToStructByPos[Order](row)
	o.ExpiresAt = o.ExpiresAt.UTC()
	if o.State == draft {
		o.Needed = max(0, approvalsNeeded-len(o.Approvers))
	}
	return o, err
}

// newID makes a random UUID (RFC 9562 §5.4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func isUUID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 36
}
