package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// readyPoll is how often a starting server is asked whether it answers.
	readyPoll = 10 * time.Millisecond
	// logTail is how much of the end of the server's log is searched for the cause of a failed start.
	logTail = 8 << 10
	// logLimit is the size from which the log is begun anew at a start.
	logLimit = 10 << 20
)

// errPortBusy says that another program took the port.
var errPortBusy = errors.New("port in use")

// process is one run of the server.
type process struct {
	pid  int
	done chan struct{} // closed when the server has ended
}

// launchOn starts the server on one port and waits until it answers, then sees to the superuser's password.
func (s *Server) launchOn(ctx context.Context, port int) error {
	logFile, offset, err := s.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = logFile.Close() }() // the child has its own copy
	cmd := s.user.command(context.WithoutCancel(ctx), s.bin.path("postgres"), s.arguments(port)...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	setDeathSignal(cmd.SysProcAttr)
	proc, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("postgres: start %s as user %s: %w", cmd.Path, s.user.name, err)
	}
	if err := s.bootstrap(ctx, proc, port); err != nil {
		exited := isClosed(proc.done)
		s.killGroup(proc)
		if exited {
			return s.explainExit(port, offset)
		}
		return err
	}
	s.mu.Lock()
	s.proc = proc
	s.mu.Unlock()
	return nil
}

// startProcess starts cmd from a goroutine that stays on one thread for as long as the child lives: on Linux the death
// signal is sent when the starting *thread* ends, not the process, and Go ends threads when it likes.
func startProcess(cmd *exec.Cmd) (*process, error) {
	started := make(chan error, 1)
	proc := &process{done: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			proc.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log, and whether it was meant is known to the caller
		}
		close(proc.done)
	}()
	return proc, <-started
}

// arguments returns the server's settings. They are given on the command line, so that an older data directory gets them too.
func (s *Server) arguments(port int) []string {
	settings := []string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port),
		"unix_socket_directories=" + s.socket, "unix_socket_permissions=0700",
		"hba_file=" + filepath.Join(s.dir, "pg_hba.conf"), "ident_file=" + filepath.Join(s.dir, "pg_ident.conf"),
		"password_encryption=scram-sha-256",
		"max_connections=100", "shared_buffers=32MB", "max_wal_size=256MB", "jit=off",
		"timezone=UTC", "log_timezone=UTC", "lc_messages=C", "logging_collector=off", "log_destination=stderr",
		// Neither statements nor the rows that a failed one names may reach the log: they can hold cryptograms.
		"log_statement=none", "log_min_error_statement=panic", "log_error_verbosity=terse", "log_parameter_max_length_on_error=0",
	}
	if s.config.Fast {
		settings = append(settings, "fsync=off", "full_page_writes=off", "synchronous_commit=off")
	} else {
		settings = append(settings, "fsync=on", "full_page_writes=on", "synchronous_commit=on")
	}
	args := []string{"-D", s.DataDir()}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return args
}

// writeAccess writes who may connect: this process's user as superuser over the socket by what the kernel says (peer),
// everybody else with a SCRAM password.
func (s *Server) writeAccess() error {
	hba := "local all " + Superuser + " peer map=keyward\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"
	// Numeric users cannot occur: PostgreSQL compares names from the passwd file. As root both names are mapped.
	ident := "keyward \"" + s.user.name + "\" " + Superuser + "\n"
	if s.user.dropped {
		ident += "keyward root " + Superuser + "\n"
	}
	for name, content := range map[string]string{"pg_hba.conf": hba, "pg_ident.conf": ident} {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return explainPath("write", path, err)
		}
		if err := s.user.own(path); err != nil {
			return err
		}
	}
	return nil
}

// bootstrap waits for the server to answer on its socket and makes sure that the superuser has the password of the file.
func (s *Server) bootstrap(ctx context.Context, proc *process, port int) error {
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s database=postgres sslmode=disable", s.socket, port, Superuser))
	if err != nil {
		return fmt.Errorf("postgres: connection settings: %w", err)
	}
	var conn *pgx.Conn
	for {
		if conn, err = pgx.ConnectConfig(ctx, config); err == nil {
			break
		}
		select {
		case <-proc.done:
			return errors.New("postgres: the server ended while starting")
		case <-ctx.Done():
			return fmt.Errorf("postgres: wait for the server: %w (last answer: %w); see %s", context.Cause(ctx), err, s.LogFile())
		case <-time.After(readyPoll):
		}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	password, fresh, err := readPassword(s.dir)
	if err != nil {
		return err
	}
	if fresh {
		// The password has letters and digits only (crypto/rand.Text), and the log shows no statements (arguments).
		if _, err := conn.Exec(ctx, "ALTER ROLE "+Superuser+" PASSWORD '"+password+"'"); err != nil {
			return fmt.Errorf("postgres: set the superuser's password: %w", err)
		}
		if err := writePassword(s.dir, password); err != nil {
			return err
		}
	}
	if s.password == "" { // it never changes, and others may read it during a restart
		s.password = password
	}
	return nil
}

// openLog opens the server's log for appending and returns where this run's part begins.
func (s *Server) openLog() (*os.File, int64, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(s.LogFile()); err == nil && info.Size() > logLimit {
		flags |= os.O_TRUNC
	}
	file, err := os.OpenFile(s.LogFile(), flags, 0o600)
	if err != nil {
		return nil, 0, explainPath("open", s.LogFile(), err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(explainPath("read", s.LogFile(), err), file.Close())
	}
	return file, info.Size(), nil
}

// explainExit says why a start failed, from what the server logged since offset.
func (s *Server) explainExit(port int, offset int64) error {
	raw, err := os.ReadFile(s.LogFile())
	if err != nil {
		return explainPath("read", s.LogFile(), err)
	}
	text := string(raw[min(offset, int64(len(raw))):])
	text = text[max(0, len(text)-logTail):]
	if strings.Contains(text, "could not bind") || strings.Contains(text, "Address already in use") {
		return portBusy(port)
	}
	return fmt.Errorf("%w; see %s", explainServer("start the server", errors.New("it ended at once"), text), s.LogFile())
}

// explainServer turns what initdb or postgres printed into a sentence with the next step.
func explainServer(what string, err error, output string) error {
	hint := ""
	switch {
	case strings.Contains(output, "No space left on device"), strings.Contains(output, "Disk quota exceeded"):
		hint = ": the disk is full: free some space or choose a data directory on another disk"
	case strings.Contains(output, "Permission denied"), strings.Contains(output, "Read-only file system"):
		hint = ": make the data directory writable or choose another one"
	case strings.Contains(output, "could not locate a valid checkpoint record"), strings.Contains(output, "invalid checkpoint"):
		hint = ": the data is damaged: restore it, or start afresh with `make dev-reset`"
	case strings.Contains(output, "could not create shared memory segment"), strings.Contains(output, "could not resize shared memory"):
		hint = ": the system has no shared memory left: stop other databases or raise its limit"
	}
	var fatal []string
	for line := range strings.Lines(output) {
		if strings.Contains(line, "FATAL") || strings.Contains(line, "PANIC") || strings.Contains(line, "error:") {
			fatal = append(fatal, strings.TrimSpace(line))
		}
	}
	if len(fatal) == 0 {
		fatal = []string{lastLines(output, 2)}
	}
	return fmt.Errorf("postgres: %s: %w: %s%s", what, err, fatal[len(fatal)-1], hint)
}

// choosePort returns the wished port when it is free, or for 0 any free one.
func choosePort(wished int) (int, error) {
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(wished)))
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return 0, portBusy(wished)
		}
		return 0, fmt.Errorf("postgres: listen on 127.0.0.1:%d: %w", wished, err)
	}
	port := listener.Addr().(*net.TCPAddr).Port // A tcp4 listener has no other address.
	return port, listener.Close()
}

func portBusy(port int) error {
	return fmt.Errorf("postgres: %w: another program listens on 127.0.0.1:%d: stop it or choose another port", errPortBusy, port)
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
