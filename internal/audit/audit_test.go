package audit_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/audit"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// chain writes n records and returns the database.
func chain(t *testing.T, n int) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	pool := db.Pool(t, migrations.RolePOSV)
	for i := range n {
		if err := audit.Append(t.Context(), pool, "操作员", "terminal.suspend", "terminal:10000001", map[string]any{"n": i, "why": "ü<&>"}); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func TestChainVerifies(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 1003} { // more than a page
		head, err := audit.Verify(t.Context(), chain(t, n).Pool(t, migrations.RolePOSV))
		if err != nil || head.Seq != int64(n) {
			t.Errorf("%d records: %+v, %v", n, head, err)
		}
	}
}

// TestChangesByOtherHands: what the superuser does to the table is found.
func TestChangesByOtherHands(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, statement string
		seq             int64
		reason          string
	}{
		{"actor", "UPDATE audit SET actor = 'x' WHERE seq = 3", 3, "content"},
		{"time", "UPDATE audit SET at = at + interval '1 microsecond' WHERE seq = 2", 2, "content"},
		{"service", "UPDATE audit SET service = 'posp' WHERE seq = 1", 1, "content"},
		{"action", "UPDATE audit SET action = 'x' WHERE seq = 4", 4, "content"},
		{"object", "UPDATE audit SET object = 'x' WHERE seq = 4", 4, "content"},
		{"detail", "UPDATE audit SET detail = '{}' WHERE seq = 5", 5, "content"},
		{"deleted", "DELETE FROM audit WHERE seq = 2", 2, "missing"},
		{"tail cut", "DELETE FROM audit WHERE seq > 3", 4, "missing"},
		{"hash made to fit", "UPDATE audit SET actor = 'x', hash = audit_hash(prev_hash, seq, at, service, 'x', action, object, detail) WHERE seq = 2", 3, "follow"},
		{"last one made to fit", "UPDATE audit SET actor = 'x', hash = audit_hash(prev_hash, seq, at, service, 'x', action, object, detail) WHERE seq = 5", 5, "head"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := chain(t, 5)
			if _, err := db.Pool(t, postgres.Superuser).Exec(t.Context(), test.statement); err != nil {
				t.Fatal(err)
			}
			_, err := audit.Verify(t.Context(), db.Pool(t, migrations.RolePOSV))
			var broken *audit.BrokenError
			if !errors.As(err, &broken) || broken.Seq != test.seq || !strings.Contains(broken.Reason, test.reason) {
				t.Fatalf("%v, want record %d: %s", err, test.seq, test.reason)
			}
		})
	}
}

// TestVerifierNeedsNoDatabase: records survive JSON, as an export has them.
func TestVerifierNeedsNoDatabase(t *testing.T) {
	t.Parallel()
	records, err := audit.List(t.Context(), chain(t, 4).Pool(t, migrations.RolePOSV), audit.Filter{})
	if err != nil || len(records) != 4 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	text, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	var back []audit.Record
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	var v audit.Verifier
	for _, r := range back {
		if err := v.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.End(audit.Head{Seq: 4, Hash: records[3].Hash}); err != nil {
		t.Fatal(err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	pool := chain(t, 3).Pool(t, migrations.RolePOSV)
	if err := audit.Append(t.Context(), pool, "li", "card.register", "card:1", nil); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		filter audit.Filter
		want   []int64
	}{
		{"all", audit.Filter{}, []int64{1, 2, 3, 4}},
		{"page", audit.Filter{After: 1, Limit: 2}, []int64{2, 3}},
		{"newest", audit.Filter{Newest: true, Limit: 2}, []int64{4, 3}},
		{"newest, second page", audit.Filter{Newest: true, After: 3, Limit: 2}, []int64{2, 1}},
		{"actor", audit.Filter{Actor: "li"}, []int64{4}},
		{"action", audit.Filter{Action: "terminal.suspend", After: 2}, []int64{3}},
		{"object", audit.Filter{Object: "card:1"}, []int64{4}},
		{"service", audit.Filter{Service: "posp"}, nil},
		{"since", audit.Filter{Since: time.Now().Add(time.Hour)}, nil},
	}
	for _, test := range tests {
		records, err := audit.List(t.Context(), pool, test.filter)
		var got []int64
		for _, r := range records {
			got = append(got, r.Seq)
		}
		if err != nil || len(got) != len(test.want) {
			t.Errorf("%s: %v, %v; want %v", test.name, got, err, test.want)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%s: %v, want %v", test.name, got, test.want)
			}
		}
	}
	if err := audit.Append(t.Context(), pool, "", "x", "", nil); err == nil {
		t.Error("an empty actor was taken")
	}
	if err := audit.Append(t.Context(), pool, "a", "x", "", map[string]any{"f": func() {}}); err == nil {
		t.Error("a detail that is no JSON was taken")
	}
}
