package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/dev"
	"github.com/keyward/keyward/internal/dev/supervise"
	"github.com/keyward/keyward/internal/pgtest"
)

// patience bounds every wait of these tests: a first start on a slow machine under the race detector.
const patience = 90 * time.Second

// programs builds all programs once and returns the directory that holds them.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "keyward-bin-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/...").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if !testing.Short() {
		dir, _ := programs() // already built, or the tests have said why not
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// running is a "keyward" process under test.
type running struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	news chan struct{} // a line came
	done chan error
}

// launch starts keyward with the arguments.
func launch(t *testing.T, args ...string) *running {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{cmd: exec.Command(filepath.Join(dir, "keyward"), args...), news: make(chan struct{}, 1), done: make(chan error, 1)}
	pipe, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stderr = r.cmd.Stdout
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		scan := bufio.NewScanner(pipe)
		for scan.Scan() {
			r.mu.Lock()
			r.out.WriteString(scan.Text() + "\n")
			r.mu.Unlock()
			select {
			case r.news <- struct{}{}:
			default:
			}
		}
		r.done <- r.cmd.Wait()
		close(r.news)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		r.ends(t)
	})
	return r
}

func (r *running) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// says waits until the output holds the words.
func (r *running) says(t *testing.T, words string) {
	t.Helper()
	limit := time.After(patience)
	for !strings.Contains(r.text(), words) {
		select {
		case _, alive := <-r.news:
			if !alive && !strings.Contains(r.text(), words) {
				t.Fatalf("keyward ended without %q:\n%s", words, r.text())
			}
		case <-limit:
			t.Fatalf("keyward does not say %q:\n%s", words, r.text())
		}
	}
}

// until asks until it is so.
func (r *running) until(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !isSo(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s:\n%s", what, r.text())
		}
		time.Sleep(50 * time.Millisecond) // it happens in other processes: there is nothing to wait for
	}
}

// ends waits for the end and returns the exit code.
func (r *running) ends(t *testing.T) int {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0
	case <-time.After(patience):
		t.Fatalf("keyward does not end:\n%s", r.text())
		return -1
	}
}

func (r *running) interrupt(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

// system is a data directory with the ports that go with it.
type system struct {
	data   string
	offset int
}

func newSystem(t *testing.T) system {
	t.Helper()
	if testing.Short() {
		t.Skip("end to end: left out with -short")
	}
	offset, err := dev.FreeOffset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := system{data: filepath.Join(t.TempDir(), "data"), offset: offset}
	t.Cleanup(func() {
		if _, err := dev.Reset(context.Background(), s.data); err != nil { // the database may lie elsewhere
			t.Error(err)
		}
	})
	return s
}

func (s system) dev(t *testing.T, args ...string) *running {
	t.Helper()
	return launch(t, append([]string{"dev", "--data-dir", s.data, "--port-offset", strconv.Itoa(s.offset)}, args...)...)
}

func (s system) addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port+s.offset) }

// processes are the numbers of all processes of the system: the children that keyward lists, and the database.
func (s system) processes(t *testing.T) map[int]string {
	t.Helper()
	list := map[int]string{}
	place, err := os.ReadFile(filepath.Join(s.data, "database-directory"))
	if err != nil {
		t.Fatal(err)
	}
	postmaster, err := os.ReadFile(filepath.Join(string(place), "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	children, err := os.ReadFile(filepath.Join(s.data, "processes"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(postmaster), "\n")
	for _, line := range append(strings.Split(strings.TrimSpace(string(children)), "\n"), first+" postgres") {
		number, what, _ := strings.Cut(line, " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		list[pid] = what
	}
	return list
}

// gone waits until none of the processes is left.
func gone(t *testing.T, list map[int]string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for pid, what := range list {
		for lives(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d (%s) is left", pid, what)
			}
			time.Sleep(10 * time.Millisecond) // not our children: there is nothing to wait for
		}
	}
}

// lives tells whether a process runs; one that ended and was not waited for (a zombie) does not.
func lives(pid int) bool {
	_, alive := supervise.Process(pid)
	return alive
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	return request(t, http.MethodGet, url, nil)
}

func request(t *testing.T, method, url string, body []byte) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, text
}

// terminal has a simulated terminal do something and returns field 39 of the answer.
func (s system) terminal(t *testing.T, id, command, body string) string {
	t.Helper()
	_, text := request(t, http.MethodPost, "http://"+s.addr(8090)+"/v1/terminals/"+id+"/"+command, []byte(body))
	var result struct {
		Code, Error string
	}
	if err := json.Unmarshal(text, &result); err != nil {
		t.Fatalf("%s: %v: %s", command, err, text)
	}
	if result.Code != "00" {
		t.Logf("%s of %s: %s", command, id, text)
	}
	return result.Code
}

const sale = `{"amount":1234,"pan":"6222020000000000018","pin":"123456"}`

func TestDev(t *testing.T) {
	s := newSystem(t)
	first := s.dev(t, "--terminals", "3")
	first.says(t, "Sign-ons and transactions:")

	// The contracts of design.md §6.
	for _, port := range []int{7001, 7101, 8080, 8081, 8082, 8083, 8090, 15001, 15002, 15003, 15011, 15012, 15013} {
		conn, err := net.DialTimeout("tcp", s.addr(port), 5*time.Second)
		if err != nil {
			t.Errorf("port %d: %v", port, err)
			continue
		}
		_ = conn.Close()
	}
	for _, port := range []int{8080, 8081, 8082, 8090} {
		for _, path := range []string{"/readyz", "/openapi.json"} {
			if status, _ := get(t, "http://"+s.addr(port)+path); status != http.StatusOK {
				t.Errorf("GET %s on %d: %d", path, port, status)
			}
		}
	}
	if status, page := get(t, "http://"+s.addr(8080)+"/"); status != http.StatusOK || !bytes.Contains(page, []byte("10000003")) {
		t.Errorf("the console answers %d and does not list terminal 10000003", status)
	}

	// A terminal signs on and buys; both stand on the screen.
	if code := s.terminal(t, "10000001", "signon", ""); code != "00" {
		t.Fatalf("sign-on ended with %q", code)
	}
	if code := s.terminal(t, "10000001", "purchase", sale); code != "00" {
		t.Fatalf("purchase ended with %q", code)
	}
	first.says(t, "purchase        10000001 00")
	if text := first.text(); strings.Contains(text, "\x1b[") {
		t.Error("colours in output that no terminal shows")
	}

	// Nobody else starts on the same data or ports.
	same := s.dev(t)
	if code := same.ends(t); code == 0 || !strings.Contains(same.text(), "another keyward runs with the data in") {
		t.Errorf("a second run on the same data: exit %d:\n%s", code, same.text())
	}
	elsewhere := launch(t, "dev", "--data-dir", t.TempDir(), "--port-offset", strconv.Itoa(s.offset))
	if code := elsewhere.ends(t); code == 0 || !strings.Contains(elsewhere.text(), fmt.Sprintf("port %d is in use", 7001+s.offset)) {
		t.Errorf("a second run on the same ports: exit %d:\n%s", code, elsewhere.text())
	}

	// A service that dies comes back (A7), and the terminal stays signed on.
	for pid, what := range s.processes(t) {
		if strings.HasSuffix(what, "/issuer") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	first.says(t, "issuer was started again")

	// So does the database.
	for pid, what := range s.processes(t) {
		if what == "postgres" {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	first.says(t, "PostgreSQL runs again")
	first.until(t, "the services have their database again", func() bool {
		for _, port := range []int{8080, 8081, 8082} {
			res, err := http.Get("http://" + s.addr(port) + "/readyz")
			if err != nil {
				return false
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return false
			}
		}
		return true
	})
	if code := s.terminal(t, "10000002", "signon", ""); code != "00" {
		t.Errorf("sign-on after the database was killed ended with %q", code)
	}

	// Ctrl-C leaves no process.
	processes := s.processes(t)
	if len(processes) < 6 {
		t.Errorf("only %d processes are listed: %v", len(processes), processes)
	}
	first.interrupt(t)
	if code := first.ends(t); code != 0 {
		t.Errorf("exit %d after Ctrl-C:\n%s", code, first.text())
	}
	gone(t, processes)

	// The second start goes on with the data and makes only what is missing.
	second := s.dev(t, "--terminals", "4")
	second.says(t, "Sign-ons and transactions:")
	if !strings.Contains(second.text(), "1 cards were issued") {
		t.Errorf("the second start did not issue exactly one card:\n%s", second.text())
	}
	if code := s.terminal(t, "10000001", "purchase", sale); code != "00" {
		t.Errorf("purchase without a new sign-on after a restart ended with %q", code)
	}
	if code := s.terminal(t, "10000004", "signon", ""); code != "00" {
		t.Errorf("sign-on of the new terminal ended with %q", code)
	}

	// Killed without a word, keyward leaves nothing that keeps the next run from starting.
	processes = s.processes(t)
	if err := second.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	second.ends(t)
	if _, err := os.Stat("/proc/self"); err == nil { // elsewhere the next run ends them
		gone(t, processes)
	}
	third := s.dev(t, "--terminals", "4", "--traffic", "--rate", "20")
	third.says(t, "Background traffic")
	third.says(t, "purchase        100001") // on the traffic's terminals only
	processes = s.processes(t)
	third.interrupt(t)
	third.says(t, "Stopping")
	third.interrupt(t) // the second one kills
	third.ends(t)
	gone(t, processes)

	// Reset removes the database, too, wherever it lies.
	place, err := os.ReadFile(filepath.Join(s.data, "database-directory"))
	if err != nil {
		t.Fatal(err)
	}
	reset := launch(t, "dev", "reset", "--data-dir", s.data)
	if code := reset.ends(t); code != 0 {
		t.Errorf("reset: exit %d:\n%s", code, reset.text())
	}
	for _, dir := range []string{s.data, string(place)} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there after the reset", dir)
		}
	}
}

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("end to end: left out with -short")
	}
	demo := launch(t, "demo")
	if code := demo.ends(t); code != 0 {
		t.Fatalf("exit %d:\n%s", code, demo.text())
	}
	text := demo.text()
	for _, want := range []string{"master key KCV 73B77B34", "Approved in", "with 55", "999,987.66", "reversal_done", "posp refuses it", "Everything is stopped"} {
		if !strings.Contains(text, want) {
			t.Errorf("the story lacks %q", want)
		}
	}
	for _, secret := range []string{"6222020000000000018", "0123456789ABCDEFFEDCBA9876543210"} {
		if strings.Contains(text, secret) {
			t.Errorf("the story shows a secret of %d digits", len(secret))
		}
	}
}
