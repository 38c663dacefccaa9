package dev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

// TestPrepare: every role can log in with its file, the roots are in the key service's store, and a second run changes nothing.
func TestPrepare(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if db.Server() == nil {
		t.Skip("passwords of roles belong to the whole server, which is not ours alone here")
	}
	dir := t.TempDir()
	super := filepath.Join(dir, "super")
	if err := os.WriteFile(super, []byte(db.URL(postgres.Superuser)), 0o600); err != nil {
		t.Fatal(err)
	}
	opt := PrepareOptions{DatabaseURLFile: super, Dir: filepath.Join(dir, "out"), KeyServiceHosts: []string{"keys"}}
	if err := Prepare(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	before := map[string]string{}
	for _, role := range migrations.ServiceRoles() {
		path := filepath.Join(opt.Dir, "secrets", role+".url")
		before[path] = read(t, path)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		conn, err := pgx.Connect(t.Context(), strings.TrimSpace(before[path]))
		if err != nil {
			t.Fatalf("%s cannot log in", role) // the cause could show the connection string
		}
		if role == migrations.RoleKeys {
			var roots int
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM keys WHERE usage = 'root' AND state = 'active'").Scan(&roots); err != nil || roots != 6 {
				t.Errorf("%d roots are in the store, want 6: %v", roots, err)
			}
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := Prepare(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	for path, text := range before {
		if read(t, path) != text {
			t.Errorf("%s changed with the second run", path)
		}
	}
}
