package domains_test

import (
	"log/slog"
	"os"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/domains"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A start replaces what the instance said before and leaves that of others alone.
func TestTeller(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t, migrations.RolePOSP)
	tell := func(instance string, places ...domains.Place) {
		t.Helper()
		teller := domains.New(pool, instance, places, slog.New(slog.DiscardHandler))
		if err := teller.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := teller.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	group := domains.Place{Name: domains.Group, Domains: []string{"old", "new"}}
	tell("posp-1", group, domains.Place{Name: "hosts.a.zpk", Usage: keys.ZonePIN, Domains: []string{"old"}})
	tell("posp-2", group)
	tell("posp-1", domains.Place{Name: domains.Group, Domains: []string{"new"}}, domains.Place{Name: "seal_key", Usage: keys.Seal, Domains: []string{"new", "old"}})
	rows, err := pool.Query(t.Context(), `SELECT instance_id || ' ' || place || ' ' || usage || ' ' || array_to_string(domains, ',') FROM posp_domains ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"posp-1 hsm  new", "posp-1 seal_key seal new,old", "posp-2 hsm  old,new"}; !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	if err := domains.New(pool, "posp-3", nil, slog.New(slog.DiscardHandler)).Stop(t.Context()); err != nil {
		t.Error(err)
	}
	pool.Close()
	if err := domains.New(pool, "posp-3", nil, slog.New(slog.DiscardHandler)).Start(t.Context()); err == nil {
		t.Error("started without a database")
	}
}
