package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

// TestMigrate: the command is idempotent, and names what is missing.
func TestMigrate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(pgtest.New(t).URL(postgres.Superuser)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := migrateCommand()
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	if out, err := run("--database-url-file", file); err != nil || !strings.Contains(out, strconv.Itoa(migrations.Latest())) {
		t.Errorf("%s: %v", out, err)
	}
	if _, err := run("--database-url-file", file+"-not-there"); err == nil || !strings.Contains(err.Error(), "--database-url-file") {
		t.Errorf("a missing file: %v", err)
	}
}
