package journal_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/spool"
)

// TestRefusedRecord: a record that the database refuses for what it says goes into quarantine and does not keep later ones back.
func TestRefusedRecord(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dir := filepath.Join(t.TempDir(), "spool")
	j, err := journal.New(journal.Config{
		Instance: "posp-1", Ack: journal.AckDatabase, Store: ledger.New(b.pool()), Location: time.UTC, Log: slog.New(slog.DiscardHandler),
		Now: time.Now, Spool: spool.Config{Dir: dir}, Owed: func(*journal.Entry) {},
	})
	must(t, err)
	must(t, j.Start(t.Context()))
	t.Cleanup(func() { _ = j.Stop(context.Background()) })

	bad := purchase
	bad.PANMasked = "not a masked number" // the table's check refuses it
	e, _ := j.Begin(key("000001"), content, bad, time.Now())
	if err := e.Sending(t.Context(), "bank", []byte("sealed")); !errors.Is(err, journal.ErrNotDurable) {
		t.Errorf("a request whose record the database refuses may be sent: %v", err)
	}
	send(t, j, "000002")
	if j.DatabaseAway() {
		t.Error("one refused record counts as an absent database")
	}
	var n int
	must(t, b.pool().QueryRow(t.Context(), `SELECT count(*) FROM transactions`).Scan(&n))
	if n != 1 {
		t.Errorf("%d records in the database, want the good one", n)
	}
	kept, err := os.ReadFile(dir + ".quarantine")
	must(t, err)
	if strings.Count(string(kept), "\n") != 1 || !strings.Contains(string(kept), e.ID().String()) && !strings.Contains(string(kept), "not a masked number") {
		t.Error("the refused record is not in the quarantine file")
	}
}
