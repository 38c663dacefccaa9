package pgpool_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/pgpool"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestOpen(t *testing.T) {
	t.Parallel()
	pool, err := pgpool.Open(t.Context(), pgtest.New(t).URL(migrations.RolePOSP), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if pool.Config().MaxConns != 3 {
		t.Errorf("%d connections, want 3", pool.Config().MaxConns)
	}
}

func TestFromConfig(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	cfg := service.DatabaseConfig{URLFile: service.SecretFile(file), MaxConnections: 2}
	if pool, err := pgpool.FromConfig(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "database.url_file") {
		t.Errorf("%v %v, want an error that names the setting", pool, err)
	}
	if err := os.WriteFile(file, []byte(pgtest.New(t).URL(migrations.RolePOSP)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := pgpool.FromConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if pool.Config().MaxConns != 2 {
		t.Errorf("%d connections, want 2", pool.Config().MaxConns)
	}
}

func TestErrorsHideThePassword(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	for _, url := range []string{"postgres://u:hidden@[broken", "postgres://u:hidden@127.0.0.1:1/none"} {
		pool, err := pgpool.Open(ctx, url, 0)
		if err == nil {
			pool.Close()
			t.Fatal("opened a database that is not there")
		}
		if strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), "database") {
			t.Errorf("error %q", err)
		}
	}
}
