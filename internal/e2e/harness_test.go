package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"github.com/keyward/keyward/sim/control/controlclient"
	"github.com/keyward/keyward/sim/pos"
)

// system is a running "keyward dev" with everything that it and the commands said.
type system struct {
	*controlclient.Client
	data   string
	offset int
	cmd    *exec.Cmd
	ended  chan error

	mu      sync.Mutex
	out     bytes.Buffer
	news    chan struct{} // closed and replaced at each line
	said    map[string][]byte
	stopped bool
}

// start runs the whole system with the number of terminals.
func start(t *testing.T, terminals int) *system {
	t.Helper()
	if testing.Short() {
		t.Skip(errShort)
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	// Between the look for free ports and their use another test may take one; then others are looked for.
	const tries = 3
	for try := 1; ; try++ {
		s, err := launch(t, filepath.Join(dir, "keyward"), terminals)
		if err == nil {
			return s
		}
		if try == tries || !strings.Contains(err.Error(), "is in use") {
			t.Fatal(err)
		}
	}
}

func launch(t *testing.T, keyward string, terminals int) (*system, error) {
	t.Helper()
	offset, err := dev.FreeOffset(t.Context())
	if err != nil {
		return nil, err
	}
	s := &system{
		data: filepath.Join(t.TempDir(), "data"), offset: offset, ended: make(chan error, 1), news: make(chan struct{}), said: map[string][]byte{},
	}
	s.Client = controlclient.New("http://"+s.addr(8090), nil)
	// Core files are allowed as far as this machine allows them, so that it shows whether the services forbid them.
	s.cmd = exec.Command("sh", "-c", `ulimit -S -c "$(ulimit -H -c)"; exec "$@"`, "sh", keyward, "dev", "--verbose", "--data-dir", s.data,
		"--port-offset", strconv.Itoa(offset), "--terminals", strconv.Itoa(terminals))
	pipe, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go s.listen(pipe)
	if _, err := s.hears("Sign-ons and transactions:"); err != nil {
		_ = s.cmd.Process.Kill() // it may have ended
		return nil, err
	}
	t.Cleanup(func() {
		s.stop(t)
		if _, err := dev.Reset(context.Background(), s.data); err != nil { // the database may lie elsewhere
			t.Error(err)
		}
	})
	return s, nil
}

func (s *system) listen(pipe io.Reader) {
	scan := bufio.NewScanner(pipe)
	for scan.Scan() {
		s.mu.Lock()
		s.out.WriteString(scan.Text() + "\n")
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
	}
	s.ended <- s.cmd.Wait()
}

// says waits until keyward has said the words.
func (s *system) says(t *testing.T, words string) {
	t.Helper()
	if _, err := s.hears(words); err != nil {
		t.Fatal(err)
	}
}

// hears waits for the words and returns all that was said.
func (s *system) hears(words string) (string, error) {
	limit := time.After(patience)
	for {
		s.mu.Lock()
		text, news := s.out.String(), s.news
		s.mu.Unlock()
		if strings.Contains(text, words) {
			return text, nil
		}
		select {
		case <-news:
		case err := <-s.ended:
			s.ended <- err
			return text, errors.Join(fmt.Errorf("keyward ended without %q:\n%s", words, text), err)
		case <-limit:
			return text, fmt.Errorf("keyward does not say %q:\n%s", words, text)
		}
	}
}

// stop is Ctrl-C and the wait for the end, which must be an orderly one.
func (s *system) stop(t *testing.T) {
	t.Helper()
	if s.stopped {
		return
	}
	s.stopped = true
	_ = s.cmd.Process.Signal(syscall.SIGINT) // it may have ended
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("keyward dev: %v\n%s", err, s.out.String())
		}
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		t.Errorf("keyward does not end after Ctrl-C:\n%s", s.out.String())
	}
}

func (s *system) addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port+s.offset) }

// note keeps what something said, for the search.
func (s *system) note(where string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[where] = append(s.said[where], text...)
}

// run runs a command of people to its end; what it prints is kept.
func (s *system) run(t *testing.T, program string, args ...string) (exit int, stdout string) {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	switch program {
	case "pos":
		args = append(args, "--control", "http://"+s.addr(8090))
	case "posv":
		args = append(args, "--api", "http://"+s.addr(8080))
	case "issuer":
		args = append(args, "--api", "http://"+s.addr(8081))
	case "posp":
		args = append(args, "--config", filepath.Join(s.data, "config", "hsm.yaml"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(dir, program), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	s.note("output of "+program, append(bytes.Clone(out.Bytes()), errs.Bytes()...))
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("%s: %v", program, err)
	}
	if errs.Len() > 0 {
		t.Logf("%s %s: %s", program, args[0], errs.String())
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// does runs a command that must succeed.
func (s *system) does(t *testing.T, program string, args ...string) string {
	t.Helper()
	exit, out := s.run(t, program, args...)
	if exit != 0 {
		t.Fatalf("%s %s: exit %d:\n%s", program, strings.Join(args[:2], " "), exit, out)
	}
	return out
}

// terminal has a terminal do something through the command that people use.
func (s *system) terminal(t *testing.T, args ...string) pos.Result {
	t.Helper()
	_, out := s.run(t, "pos", append(args, "--output", "json")...)
	var r pos.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("pos %s: %v: %q", args[0], err, out)
	}
	return r
}

// ask sends a request to a listener and keeps the answer for the search.
func (s *system) ask(t *testing.T, method string, port int, path, body string) (int, []byte) {
	t.Helper()
	return s.fetch(t, http.DefaultClient, method, "http://"+s.addr(port)+path, body)
}

func (s *system) fetch(t *testing.T, client *http.Client, method, url, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Operator", "tester")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // only read
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.note(method+" "+url, text)
	return res.StatusCode, text
}

// until looks again and again until it is so, and fails when the bound is over.
func until(t *testing.T, bound time.Duration, what string, isSo func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !isSo() {
		if time.Since(begun) > bound {
			t.Fatalf("%s: not within %s", what, bound)
		}
		time.Sleep(10 * time.Millisecond) // what is waited for happens in another process, which tells nobody
	}
	return time.Since(begun)
}

// children are keyward's processes as it lists them, by the words of their command lines.
func (s *system) children(t *testing.T) map[string]int {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(s.data, "processes"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(string(list)) {
		number, _, _ := strings.Cut(line, " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		words, alive := supervise.Process(pid)
		if !alive {
			continue // it has just ended
		}
		name := filepath.Base(words[0])
		if len(words) > 1 && words[1] == "keys" {
			name = "keys"
		}
		out[name] = pid
	}
	return out
}
