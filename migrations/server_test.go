package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

// freshServer starts a server whose roles nobody has made yet.
func freshServer(t *testing.T) *postgres.Server {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kw-migrate-") //nolint:usetesting // The database user must reach it.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	server, err := postgres.Start(t.Context(), postgres.Config{Dir: dir, Fast: true})
	if errors.Is(err, postgres.ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skipf("no database: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return server
}

// TestSeveralDatabasesOfOneServer: roles belong to the server, so databases migrated at once race to make them.
func TestSeveralDatabasesOfOneServer(t *testing.T) {
	t.Parallel()
	server := freshServer(t)
	const databases = 4
	done := make(chan error)
	for i := range databases {
		name := fmt.Sprintf("db%d", i)
		if err := server.EnsureDatabase(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		go func() { done <- migrations.Apply(t.Context(), server.URL(postgres.Superuser, name)) }()
	}
	for range databases {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := migrations.Down(t.Context(), server.URL(postgres.Superuser, "db0")); err != nil {
		t.Fatal(err)
	}
	wantVersion(t, server.URL(postgres.Superuser, "db1"), migrations.Latest())
}

// TestMigratorNeedsNoSuperuser: a role that owns the database and may create roles is enough.
func TestMigratorNeedsNoSuperuser(t *testing.T) {
	t.Parallel()
	server := freshServer(t)
	conn, err := pgx.Connect(t.Context(), server.URL(postgres.Superuser, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, statement := range []string{
		"CREATE ROLE migrator LOGIN CREATEROLE PASSWORD '" + server.Password("migrator") + "'",
		"CREATE DATABASE keyward OWNER migrator",
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	url := server.URL("migrator", "keyward")
	for _, step := range []func(context.Context, string) error{migrations.Apply, migrations.Down, migrations.Apply} {
		if err := step(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	}
	if err := migrations.SetPasswords(t.Context(), url, map[string]string{migrations.RolePOSP: server.Password(migrations.RolePOSP)}); err != nil {
		t.Fatal(err)
	}
	posp, err := pgx.Connect(t.Context(), server.URL(migrations.RolePOSP, "keyward"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = posp.Close(t.Context()) }()
	if _, err := posp.Exec(t.Context(), "SELECT ensure_transaction_partitions(current_date, 2)"); err != nil {
		t.Error(err)
	}
}

func TestSetPasswords(t *testing.T) {
	t.Parallel()
	server := freshServer(t)
	url := server.URL(postgres.Superuser, "postgres")
	if err := migrations.Apply(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	login := func(password string) error {
		config, err := pgx.ParseConfig(url)
		if err != nil {
			return err
		}
		config.User, config.Password = migrations.RolePOSV, password
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			return err
		}
		return conn.Close(t.Context())
	}
	if login("") == nil {
		t.Error("a role logs in before it has a password")
	}
	for _, refused := range []map[string]string{
		{migrations.RoleOwner: "x"}, {postgres.Superuser: "x"}, {migrations.RolePOSV: ""}, {migrations.RolePOSV: "é"},
	} {
		if err := migrations.SetPasswords(t.Context(), url, refused); err == nil {
			t.Errorf("passwords for %v are accepted", refused)
		}
	}
	for _, password := range []string{"first", "second ' \" \\ one"} {
		done := make(chan error)
		for range 4 { // several services may be started at once
			go func() {
				done <- migrations.SetPasswords(t.Context(), url, map[string]string{migrations.RolePOSV: password, migrations.RolePOSP: password})
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := login(password); err != nil {
			t.Errorf("login with %q: %v", password, err)
		}
		if login("other") == nil {
			t.Error("a wrong password is accepted")
		}
	}
}
