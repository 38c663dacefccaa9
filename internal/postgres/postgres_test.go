package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// orphanDir, when set, makes the test binary a keyward that starts a server, prints its process number and waits to be killed.
const orphanDir = "KEYWARD_TEST_ORPHAN_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(orphanDir); dir != "" {
		s, err := Start(context.Background(), Config{Dir: dir})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(s.proc.pid)
		select {}
	}
	goleak.VerifyTestMain(m)
}

// tempDir returns a directory that the database user can reach; that of t.TempDir is closed to it when the tests run as root.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kw-pg-test-") //nolint:usetesting // The database user must reach it.
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func start(t *testing.T, config Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), config)
	if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skipf("no database: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

// run executes statements as the superuser over TCP.
func run(t *testing.T, s *Server, statements ...string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL(Superuser, "postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			return err
		}
	}
	return nil
}

func TestDataSurvivesStopKillAndRestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "made", "on", "the", "way")
	s := start(t, Config{Dir: dir})
	if err := run(t, s, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	port, url := s.Port(), s.URL(Superuser, "postgres")
	s.Kill()
	if err := run(t, s, "SELECT 1"); err == nil {
		t.Error("the server answers after Kill")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("restart after kill: %v", err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("restart of a running server: %v", err)
	}
	if s.Port() != port {
		t.Errorf("port %d after restart, want %d", s.Port(), port)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if err := s.Restart(t.Context()); err == nil {
		t.Error("restart after stop is not refused")
	}
	again := start(t, Config{Dir: dir, Port: port})
	if again.URL(Superuser, "postgres") != url {
		t.Error("the password or port changed over a stop")
	}
	if err := run(t, again, "INSERT INTO t VALUES (2)"); err != nil {
		t.Errorf("data is gone: %v", err)
	}
}

func TestPasswordIsKeptSecret(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := start(t, Config{Dir: tempDir(t), Fast: true, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	info, err := os.Stat(filepath.Join(s.dir, "password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", info, err)
	}
	if err := run(t, s, "CREATE ROLE guest LOGIN PASSWORD 'right'"); err != nil {
		t.Fatal(err)
	}
	if err := run(t, s, "CREATE ROLE guest LOGIN PASSWORD 'SECRETVALUE'"); err == nil {
		t.Fatal("a role was made twice")
	}
	wrong := strings.Replace(s.URL(Superuser, "postgres"), s.password, "wrong", 1)
	if conn, err := pgx.Connect(t.Context(), wrong); err == nil {
		_ = conn.Close(t.Context())
		t.Error("a wrong password is accepted")
	}
	server, err := os.ReadFile(s.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{s.password, "SECRETVALUE"} {
		if strings.Contains(log.String()+string(server), secret) {
			t.Error("a log holds a password")
		}
	}
	if s.Password("keyward_posp") == s.Password("keyward_posv") || strings.Contains(s.Password("keyward_posp"), s.password) {
		t.Error("passwords of roles are not their own")
	}
}

func TestSafeSettingsUnlessFast(t *testing.T) {
	t.Parallel()
	for _, fast := range []bool{false, true} {
		s := start(t, Config{Dir: tempDir(t), Fast: fast})
		conn, err := pgx.Connect(t.Context(), s.URL(Superuser, "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		var fsync, encoding, connections string
		err = conn.QueryRow(t.Context(), "SELECT current_setting('fsync'), current_setting('server_encoding'), current_setting('max_connections')").Scan(&fsync, &encoding, &connections)
		if want := map[bool]string{false: "on", true: "off"}[fast]; err != nil || fsync != want || encoding != "UTF8" || connections != "100" {
			t.Errorf("fast %v: fsync %s, encoding %s, connections %s, %v", fast, fsync, encoding, connections, err)
		}
		_ = conn.Close(t.Context())
	}
}

func TestEnsureDatabase(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Dir: tempDir(t), Fast: true})
	for range 2 {
		if err := s.EnsureDatabase(t.Context(), `odd "name"`); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTroublesAreOneClearSentence(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = busy.Close() }) // the cases run after this function returns
	held := start(t, Config{Dir: tempDir(t), Fast: true})
	tests := []struct {
		name    string
		prepare func(t *testing.T, dir string)
		config  Config
		want    []string
	}{
		{name: "no directory", config: Config{}, want: []string{"Config.Dir is empty"}},
		{name: "port out of range", config: Config{Dir: tempDir(t), Port: 70000}, want: []string{"70000"}},
		{
			name: "port in use", config: Config{Dir: tempDir(t), Port: busy.Addr().(*net.TCPAddr).Port},
			want: []string{"another program listens on 127.0.0.1:", "choose another port"},
		},
		{name: "directory in use", config: Config{Dir: held.dir}, want: []string{"another keyward process", "stop that one"}},
		{
			name: "other major version", config: Config{Dir: tempDir(t)},
			prepare: func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, lockName), "")
				write(t, filepath.Join(dir, "data", "PG_VERSION"), "9\n")
			},
			want: []string{"written by PostgreSQL 9", "PG_BIN", "make dev-reset"},
		},
		{
			name: "foreign directory", config: Config{Dir: tempDir(t)},
			prepare: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "photo.jpg"), "x") },
			want:    []string{"holds other files", "choose an empty"},
		},
		{
			name: "foreign data", config: Config{Dir: tempDir(t)},
			prepare: func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, lockName), "")
				write(t, filepath.Join(dir, "data", "x"), "x")
			},
			want: []string{"not empty and not a database"},
		},
		{
			name: "a file in the way", config: Config{Dir: filepath.Join(tempDir(t), "file", "sub")},
			prepare: func(t *testing.T, dir string) { write(t, filepath.Dir(dir), "x") },
			want:    []string{"choose another data directory"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.prepare != nil {
				test.prepare(t, test.config.Dir)
			}
			s, err := Start(t.Context(), test.config)
			if err == nil {
				_ = s.Stop(t.Context())
				t.Fatal("started")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error is not one line: %q", err)
			}
		})
	}
}

func TestStalePidFile(t *testing.T) {
	t.Parallel()
	dead := exec.Command("/bin/true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]int{"of a dead server": dead.Process.Pid, "number taken by another program": os.Getpid()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tempDir(t)
			s := start(t, Config{Dir: dir, Fast: true})
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(s.DataDir(), "postmaster.pid")
			write(t, path, strconv.Itoa(pid)+"\n"+s.DataDir()+"\n")
			if err := os.Lchown(path, s.user.uid, s.user.gid); err != nil {
				t.Fatal(err)
			}
			if err := run(t, start(t, Config{Dir: dir, Fast: true}), "SELECT 1"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKilledParentLeavesNoServer kills a process that runs a server. On Linux the server must go by itself; everywhere the
// next start in the directory must work.
func TestKilledParentLeavesNoServer(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	start(t, Config{Dir: tempDir(t), Fast: true}) // skips where there is no PostgreSQL
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), orphanDir+"="+dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatalf("the parent printed no process number: %v", err)
	}
	if !alive(pid) || !runsIn(pid, filepath.Join(dir, "data")) {
		t.Fatalf("process %d is not the server", pid)
	}
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // reports the kill
	began := time.Now()
	if hasDeathSignal() && !waitGone(t.Context(), pid, 5*time.Second) {
		t.Fatal("the server outlived its parent by 5 s")
	}
	t.Logf("server gone %v after its parent", time.Since(began))
	if err := run(t, start(t, Config{Dir: dir}), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func TestLongPathUsesAnotherSocketDirectory(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Dir: filepath.Join(tempDir(t), strings.Repeat("long", 30)), Fast: true})
	if within(s.dir, s.socket) {
		t.Errorf("socket directory %s", s.socket)
	}
	socket := s.socket
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket directory is left: %v", err)
	}
}

func TestStartHonoursContext(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Start(ctx, Config{Dir: dir}); err == nil {
		_ = s.Stop(t.Context())
		t.Fatal("started with a cancelled context")
	}
	start(t, Config{Dir: dir, Fast: true}) // and nothing is left in the way
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
