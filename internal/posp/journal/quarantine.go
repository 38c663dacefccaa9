package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/txn"
)

// PostgreSQL's classes of errors that speak of a record's content (PostgreSQL manual, appendix A): data exception and
// integrity constraint violation. They come again however often the record is sent.
const (
	classData      = "22"
	classIntegrity = "23"
)

// refused says that PostgreSQL refuses what a record says, rather than being away.
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, classData) || strings.HasPrefix(pg.Code, classIntegrity))
}

// shipOneByOne finds the records of a batch that PostgreSQL refuses for what they say. One such record must not keep all later ones
// from the database, so it goes, durably, into the quarantine file, and people are told: it is a defect in our own code or a
// schema of another version.
func (j *Journal) shipOneByOne(ctx context.Context, batch []spool.Record, records []*ledger.Record) ([]ledger.Conflict, error) {
	var all []ledger.Conflict
	for i, r := range records {
		conflicts, err := j.cfg.Store.Write(ctx, []*ledger.Record{r})
		switch {
		case err == nil:
			all = append(all, conflicts...)
		case !refused(err):
			return nil, err
		default:
			if keepErr := j.quarantine(batch[i].Data); keepErr != nil {
				return nil, errors.Join(err, keepErr)
			}
			j.metrics.quarantined.Inc()
			j.mu.Lock()
			if len(j.quarantined) >= maxConflicts {
				clear(j.quarantined)
			}
			j.quarantined[r.Txn] = true
			j.mu.Unlock()
			j.cfg.Log.ErrorContext(ctx, "journal: the database refuses a record; it is kept in the quarantine file and must be entered by hand",
				"txn", r.Txn.String(), "event", string(r.Event), "file", j.quarantineFile(), "error", err)
		}
	}
	return all, nil
}

// isQuarantined says that the database refused a record of this transaction.
func (j *Journal) isQuarantined(id txn.ID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.quarantined[id]
}

func (j *Journal) quarantineFile() string { return j.cfg.Spool.Dir + ".quarantine" }

// quarantine appends one record, a line of JSON with its sealed part, and returns when it is on disk.
func (j *Journal) quarantine(record []byte) (err error) {
	f, err := os.OpenFile(j.quarantineFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the quarantine file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(append(record, '\n')); err != nil {
		return fmt.Errorf("write the quarantine file: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync the quarantine file: %w", err)
	}
	return nil
}
