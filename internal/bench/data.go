package bench

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/load"
)

const merchant = "104110000000001"

// card is one terminal with its card's master key.
type card struct {
	terminal, psam string
	clear          []byte
	cryptogram     string
	kcv            string
}

// makeCards draws master keys and puts them under the test LMK, as the issue of real cards would.
func makeCards(count int) ([]card, error) {
	device, err := hsm.New(hsm.Config{Ports: []hsm.Port{{Name: "ceremony", Addr: "127.0.0.1:0", Allow: hsm.AllCommands()}}})
	if err != nil {
		return nil, err
	}
	cards := make([]card, count)
	for i := range cards {
		c := card{terminal: fmt.Sprintf("1000%04d", i+1), psam: fmt.Sprintf("6000000000000000%04d", i+1), clear: make([]byte, 16)}
		if _, err := rand.Read(c.clear); err != nil {
			return nil, err
		}
		if c.cryptogram, err = device.EncryptUnderLMK("80D", "U", c.clear); err != nil {
			return nil, err
		}
		if c.kcv, err = hsm.CheckValue("DES", c.clear); err != nil {
			return nil, err
		}
		cards[i] = c
	}
	return cards, nil
}

// fillDatabase writes merchant, terminals, cards, bindings and master keys in one transaction.
func fillDatabase(ctx context.Context, url string, cards []card) (err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // everything was committed or nothing
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var b pgx.Batch
		b.Queue(`INSERT INTO merchants (merchant_id, name) VALUES ($1, 'bench')`, merchant)
		for _, c := range cards {
			b.Queue(`INSERT INTO terminals (terminal_id, merchant_id) VALUES ($1, $2)`, c.terminal, merchant)
			b.Queue(`INSERT INTO cards (psam_no, state) VALUES ($1, 'in_service')`, c.psam)
			b.Queue(`INSERT INTO bindings (psam_no, terminal_id, actor) VALUES ($1, $2, 'bench')`, c.psam, c.terminal)
			b.Queue(`INSERT INTO keys (name, usage, algorithm, version, lmk_domain, cryptogram, kcv, length_bits, state)
				VALUES ('PSAM:' || $1, 'tmk', 'tdes', 1, $2, $3, $4, 128, 'active')`, c.psam, ceremony.Domain, c.cryptogram, c.kcv)
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	return nil
}

// terminals makes the load's terminals; posp and the relay get a set each, because each gives them other keys.
func terminals(cards []card) ([]*load.Terminal, error) {
	out := make([]*load.Terminal, len(cards))
	for i, c := range cards {
		t, err := load.NewTerminal(load.Config{TerminalID: c.terminal, MerchantID: merchant, MasterKey: c.clear})
		if err != nil {
			return nil, err
		}
		out[i] = t
	}
	return out, nil
}

// counts are totals that tell what a purchase costs in round trips.
type counts struct{ hsm, commits, syncs int64 }

func (c counts) minus(o counts) counts {
	return counts{hsm: c.hsm - o.hsm, commits: c.commits - o.commits, syncs: c.syncs - o.syncs}
}

// count reads the totals of HSMs and database. The database's own statistics lag by up to a second, which a slice of seconds bears.
func (s *system) count(ctx context.Context) (c counts, err error) {
	for _, d := range s.devices {
		c.hsm += d.Counters().Requests
	}
	conn, err := pgx.Connect(ctx, s.superURL)
	if err != nil {
		return c, fmt.Errorf("read the database's statistics: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // only read
	if err := conn.QueryRow(ctx, `SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()`).Scan(&c.commits); err != nil {
		return c, fmt.Errorf("read the database's statistics: %w", err)
	}
	// Newer versions count syncs elsewhere; then there is no figure.
	if err := conn.QueryRow(ctx, `SELECT wal_sync FROM pg_stat_wal`).Scan(&c.syncs); err != nil {
		c.syncs = 0
	}
	return c, nil
}
