package workkeys_test

import (
	"testing"
	"time"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/migrations"
)

// TestPurge: sets that are over go after their time, unused ones much earlier; live ones and the newest of a terminal stay.
func TestPurge(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t, migrations.RolePOSP)
	k := start(t, pool)
	for n := byte(1); n <= 6; n++ {
		if err := k.Commit(t.Context(), terminal, newSet(n, "000001")); err != nil {
			t.Fatal(err)
		}
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	row := func(version int, state string, age time.Duration, used bool) {
		t.Helper()
		made := time.Now().Add(-age)
		exec(`UPDATE work_keys SET state = $2, made_at = $3, expires_at = $3::timestamptz + interval '1 day', first_used_at = CASE WHEN $4 THEN $3::timestamptz END WHERE version = $1`,
			version, state, made, used)
	}
	if err := k.Reload(t.Context(), terminal); err != nil { // nothing is unsaid any more
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	row(1, "expired", 3*day, false) // goes
	row(2, "pending", 4*day, false) // goes: its wait is over
	row(3, "ended", 500*day, true)  // goes
	row(4, "ended", 300*day, true)  // stays
	row(5, "active", 500*day, true) // stays
	row(6, "expired", 9*day, false) // stays: the newest
	for _, want := range []int64{3, 0} {
		if got, err := k.Purge(t.Context()); err != nil || got != want {
			t.Errorf("purged %d, %v, want %d", got, err, want)
		}
	}
	var left string
	if err := pool.QueryRow(t.Context(), `SELECT string_agg(version::text, ' ' ORDER BY version) FROM work_keys`).Scan(&left); err != nil || left != "4 5 6" {
		t.Errorf("left %q, %v", left, err)
	}
}
