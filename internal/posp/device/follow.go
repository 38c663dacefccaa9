package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyward/keyward/keys"
)

// The clockwork of following the registry. A change must be here within a second (P5), also when a notification is lost.
const (
	pollEvery    = 400 * time.Millisecond
	queryTimeout = 5 * time.Second
	backoffMin   = 200 * time.Millisecond
	backoffMax   = 5 * time.Second
	// channel is the name that the registry's trigger notifies.
	channel = "keyward_device"
)

// rowsSQL reads terminals with their valid card and its newest active master key for the terminal's algorithm.
const rowsSQL = `
SELECT t.terminal_id, t.merchant_id, t.state, m.state, t.profile, t.algorithm, t.mak_length, t.test,
       coalesce(b.psam_no, ''), coalesce(c.state, ''),
       coalesce(k.key_id, 0), coalesce(k.version, 0), coalesce(k.algorithm, ''), coalesce(k.lmk_domain, ''),
       coalesce(k.cryptogram, ''), coalesce(k.kcv, '')
  FROM terminals t
  JOIN merchants m ON m.merchant_id = t.merchant_id
  LEFT JOIN bindings b ON b.terminal_id = t.terminal_id AND b.valid_to IS NULL
  LEFT JOIN cards c ON c.psam_no = b.psam_no
  LEFT JOIN LATERAL (
       SELECT * FROM card_master_keys k
        WHERE k.name = 'PSAM:' || b.psam_no
          AND k.algorithm = CASE t.algorithm WHEN 'sm4' THEN 'sm4' ELSE 'tdes' END
        ORDER BY k.version DESC LIMIT 1) k ON true
 WHERE $1::text[] IS NULL OR t.terminal_id = ANY($1)`

// Follower keeps a Table current from the database.
type Follower struct {
	table *Table
	url   string
	log   *slog.Logger
	now   func() time.Time
	// loading holds one token: rows are read and put into the table by one at a time, so that an older reading never overwrites a newer
	// one and a terminal that was suspended stays so.
	loading chan struct{}
	seq     int64 // of the last change that is in the table; used by run alone
	cancel  context.CancelFunc
	done    chan struct{}
}

// NewFollower makes a follower of the registry at url (posp's role). Start loads the table.
func NewFollower(table *Table, url string, log *slog.Logger, now func() time.Time) *Follower {
	return &Follower{table: table, url: url, log: log, now: now, loading: make(chan struct{}, 1), done: make(chan struct{})}
}

// Start loads the whole table and then follows changes in the background until Stop. It fails when the first load does.
func (f *Follower) Start(ctx context.Context) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return fmt.Errorf("load the device table: %w", err)
	}
	if err := f.loadAll(ctx, conn); err != nil {
		_ = conn.Close(ctx)
		return fmt.Errorf("load the device table: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	go f.run(run, conn)
	return nil
}

// Stop ends the following; the table keeps its rows.
func (f *Follower) Stop(ctx context.Context) error {
	if f.cancel == nil {
		return nil
	}
	f.cancel()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop following the device table: %w", ctx.Err())
	}
}

// Reload reads one terminal from the database at once. Flows call it, bounded by ctx, when memory has no answer.
func (f *Follower) Reload(ctx context.Context, terminal string) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		return fmt.Errorf("reload terminal %s: %w", terminal, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return f.load(ctx, conn, []string{terminal})
}

func (f *Follower) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("listen for device changes: %w", err)
	}
	return conn, nil
}

// run waits for notifications, polls as a safety net, and reconnects with back-off when the database goes away.
func (f *Follower) run(ctx context.Context, conn *pgx.Conn) {
	defer close(f.done)
	wait := backoffMin
	for ctx.Err() == nil {
		err := f.follow(ctx, conn)
		_ = conn.Close(context.WithoutCancel(ctx))
		if ctx.Err() != nil {
			return
		}
		f.log.WarnContext(ctx, "device table: database away, serving the copy", "error", err)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			if conn, err = f.connect(ctx); err == nil {
				break
			}
			wait = min(2*wait, backoffMax)
		}
		wait = backoffMin
		f.log.InfoContext(ctx, "device table: database back")
	}
}

// follow applies changes on one connection until it fails or ctx ends.
func (f *Follower) follow(ctx context.Context, conn *pgx.Conn) error {
	for {
		if err := f.catchUp(ctx, conn); err != nil {
			return err
		}
		waitCtx, cancel := context.WithTimeout(ctx, pollEvery)
		_, err := conn.WaitForNotification(waitCtx)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !pgconn.Timeout(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// catchUp reads the terminals named by changes after the last one seen.
func (f *Follower) catchUp(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	last := f.seq
	var changed []string
	rows, err := conn.Query(ctx, `SELECT seq, terminal_id FROM device_changes WHERE seq > $1 ORDER BY seq`, f.seq)
	if err != nil {
		return fmt.Errorf("read device changes: %w", err)
	}
	var id string
	var seq int64
	if _, err := pgx.ForEachRow(rows, []any{&seq, &id}, func() error {
		last = seq
		changed = append(changed, id)
		return nil
	}); err != nil {
		return fmt.Errorf("read device changes: %w", err)
	}
	if len(changed) > 0 {
		if err := f.load(ctx, conn, changed); err != nil {
			return err
		}
		f.seq = last
	}
	f.table.markSynced(f.now())
	return nil
}

// loadAll reads the newest change number first, so that a change made meanwhile is read again rather than missed.
func (f *Follower) loadAll(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := conn.QueryRow(ctx, `SELECT coalesce(max(seq), 0) FROM device_changes`).Scan(&f.seq); err != nil {
		return fmt.Errorf("read device changes: %w", err)
	}
	if err := f.load(ctx, conn, nil); err != nil {
		return err
	}
	f.table.markSynced(f.now())
	return nil
}

// load reads the named terminals (nil for all) into the table; a named terminal without a row is removed.
func (f *Follower) load(ctx context.Context, conn *pgx.Conn, ids []string) error {
	select {
	case f.loading <- struct{}{}:
		defer func() { <-f.loading }()
	case <-ctx.Done():
		return fmt.Errorf("read terminals: %w", ctx.Err())
	}
	rows, err := conn.Query(ctx, rowsSQL, ids)
	if err != nil {
		return fmt.Errorf("read terminals: %w", err)
	}
	missing := make(map[string]bool, len(ids))
	for _, id := range ids {
		missing[id] = true
	}
	terminals, err := pgx.CollectRows(rows, scanTerminal)
	if err != nil {
		return fmt.Errorf("read terminals: %w", err)
	}
	for _, t := range terminals {
		delete(missing, t.ID)
		f.table.put(t.ID, t)
	}
	for id := range missing {
		f.table.put(id, nil)
	}
	return nil
}

func scanTerminal(row pgx.CollectableRow) (*Terminal, error) {
	t := &Terminal{Master: keys.Wrapped{Usage: keys.TerminalMaster}}
	var algorithm, keyAlgorithm, kcv string
	err := row.Scan(&t.ID, &t.Merchant, &t.State, &t.MerchantState, &t.Profile, &algorithm, &t.MAKBytes, &t.Test,
		&t.PSAM, &t.CardState, &t.MasterKey, &t.Master.Version, &keyAlgorithm, &t.Master.Domain, &t.Master.Cryptogram, &kcv)
	if err != nil {
		return nil, err
	}
	if t.Algorithm, err = keys.ParseAlgorithm(algorithm); err != nil {
		return nil, fmt.Errorf("terminal %s: %w", t.ID, err)
	}
	if !t.Master.IsZero() {
		if t.Master.Algorithm, err = keys.ParseAlgorithm(keyAlgorithm); err != nil {
			return nil, fmt.Errorf("master key %d: %w", t.MasterKey, err)
		}
		t.Master.KCV = keys.KCV(kcv)
	}
	return t, nil
}
