package supervise_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/dev/supervise"
)

// The test binary is its own child: the variable says what to play.
const roleVariable = "KEYWARD_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role, os.Args[1:])
		return
	}
	goleak.VerifyTestMain(m)
}

// play is a child. "serve" connects to the address in its arguments, sends its number, and waits: the test sees it die by the end of
// the connection.
func play(role string, args []string) {
	switch role {
	case "fail":
		fmt.Fprintln(os.Stderr, "first line\ncannot open the thing")
		os.Exit(3)
	case "supervise": // a supervisor that will be killed
		s, err := supervise.New(supervise.Config{LogDir: args[1]})
		if err == nil {
			_ = os.Setenv(roleVariable, "serve")
			err = s.Start(context.Background(), supervise.Spec{Name: "grandchild", Path: os.Args[0], Args: []string{args[0], "grandchild"}})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		select {}
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	}
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		os.Exit(4)
	}
	_, _ = fmt.Fprintf(conn, "%s %d\n", args[1], os.Getpid())
	_, _ = io.Copy(io.Discard, conn)
	select {}
}

// meeting is where children report.
type meeting struct {
	l    net.Listener
	mu   sync.Mutex
	ends []string // names in the order in which they ended
}

// visitor is one child, as seen from its connection.
type visitor struct {
	name string
	pid  int
	conn net.Conn
}

func newMeeting(t *testing.T) *meeting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &meeting{l: l}
}

// next waits for a child to report.
func (m *meeting) next(t *testing.T) visitor {
	t.Helper()
	_ = m.l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := m.l.Accept()
	if err != nil {
		t.Fatalf("no child reported: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var v visitor
	if _, err := fmt.Fscanf(conn, "%s %d\n", &v.name, &v.pid); err != nil {
		t.Fatal(err)
	}
	v.conn = conn
	return v
}

// gone waits until the child has ended.
func (v visitor) gone(t *testing.T) {
	t.Helper()
	_ = v.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := v.conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%s (%d) did not end", v.name, v.pid)
	}
}

func newSupervisor(t *testing.T, cfg supervise.Config) *supervise.Supervisor {
	t.Helper()
	if cfg.LogDir == "" {
		cfg.LogDir = t.TempDir()
	}
	s, err := supervise.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func (m *meeting) spec(name string) supervise.Spec {
	return supervise.Spec{Name: name, Path: os.Args[0], Args: []string{m.l.Addr().String(), name}, StopWait: 10 * time.Second}
}

func start(t *testing.T, s *supervise.Supervisor, m *meeting, name string) visitor {
	t.Helper()
	if err := s.Start(t.Context(), m.spec(name)); err != nil {
		t.Fatal(err)
	}
	return m.next(t)
}

func TestStopsInReverseOrder(t *testing.T) {
	t.Setenv(roleVariable, "serve")
	m := newMeeting(t)
	s := newSupervisor(t, supervise.Config{})
	var wg sync.WaitGroup
	for _, name := range []string{"one", "two", "three"} {
		v := start(t, s, m, name)
		wg.Go(func() {
			v.gone(t)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.ends = append(m.ends, v.name)
		})
	}
	if n := len(s.PIDs()); n != 3 {
		t.Fatalf("%d children run, want 3", n)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := strings.Join(m.ends, " "); got != "three two one" {
		t.Errorf("ended in the order %q", got)
	}
	if err := s.Start(t.Context(), m.spec("late")); err == nil {
		t.Error("a stopped supervisor started a child")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

func TestRestartsWhatDies(t *testing.T) {
	t.Setenv(roleVariable, "serve")
	m := newMeeting(t)
	told := make(chan string, 8)
	s := newSupervisor(t, supervise.Config{Tell: func(sentence string) { told <- sentence }})
	first := start(t, s, m, "posp")
	if err := syscall.Kill(first.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first.gone(t)
	again := m.next(t)
	if again.pid == first.pid {
		t.Error("the same process reported twice")
	}
	for _, want := range []string{"posp ended with signal: killed", "posp was started again"} {
		if got := <-told; !strings.Contains(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	again.gone(t)
}

func TestDeathAtStartShowsTheLog(t *testing.T) {
	t.Setenv(roleVariable, "fail")
	dir := t.TempDir()
	s := newSupervisor(t, supervise.Config{LogDir: dir})
	spec := supervise.Spec{Name: "posp", Path: os.Args[0], Ready: func(context.Context) error { return errors.New("not yet") }}
	err := s.Start(t.Context(), spec)
	if err == nil {
		t.Fatal("a child that ended counts as started")
	}
	for _, want := range []string{"posp did not start", "exit status 3", "cannot open the thing", filepath.Join(dir, "posp.log")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestNeverReady(t *testing.T) {
	t.Setenv(roleVariable, "serve")
	m := newMeeting(t)
	s := newSupervisor(t, supervise.Config{})
	spec := m.spec("posv")
	spec.ReadyWait = 300 * time.Millisecond
	spec.Ready = func(context.Context) error { return errors.New("database: away") }
	err := s.Start(t.Context(), spec)
	if err == nil || !strings.Contains(err.Error(), "database: away") {
		t.Errorf("error %v, want the last answer in it", err)
	}
	m.next(t).gone(t)
}

func TestMissingProgram(t *testing.T) {
	s := newSupervisor(t, supervise.Config{})
	err := s.Start(t.Context(), supervise.Spec{Name: "posp", Path: "/nonexistent/posp"})
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("error %v, want the next step", err)
	}
}

func TestStubbornChildIsKilled(t *testing.T) {
	t.Setenv(roleVariable, "stubborn")
	m := newMeeting(t)
	s := newSupervisor(t, supervise.Config{})
	spec := m.spec("stubborn")
	spec.StopWait = 200 * time.Millisecond
	if err := s.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	v := m.next(t)
	if err := s.Stop(); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("stop: %v", err)
	}
	v.gone(t)
}

func TestChildrenGoWithTheSupervisor(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no death signal on this system: the next run ends what was left")
	}
	m := newMeeting(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], m.l.Addr().String(), t.TempDir())
	cmd.Env = append(os.Environ(), roleVariable+"=supervise")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := m.next(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	v.gone(t)
}

func TestLeftovers(t *testing.T) {
	t.Setenv(roleVariable, "serve")
	m := newMeeting(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], m.l.Addr().String(), "left")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	v := m.next(t)
	list := filepath.Join(t.TempDir(), "processes")
	// The second line is a number that now belongs to another program: this test itself.
	content := strconv.Itoa(v.pid) + " " + os.Args[0] + "\n" + strconv.Itoa(os.Getpid()) + " /somewhere/else/posp\nnonsense\n"
	if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := supervise.Leftovers(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	v.gone(t)
	<-ended
	if _, err := os.Stat(list); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the list is still there: %v", err)
	}
}
