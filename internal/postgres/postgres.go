// Package postgres runs a private PostgreSQL server as a child process, for `keyward dev` and for tests.
//
// It finds or installs the binaries (find.go, install.go), chooses a user and a directory (identity.go, directory.go),
// makes the data directory from a cached template (initdb.go), and starts and stops the server (process.go, stop.go). The
// recipe and its traps are those of facts/platform.md, "PostgreSQL, private and embedded". Linux and macOS only.
//
// The server listens on 127.0.0.1 with SCRAM passwords and on a unix socket in a directory that only its user may enter.
// Keyward itself sets the superuser's password over that socket, where the kernel vouches for the user (peer).
package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// ErrUnavailable says that no PostgreSQL was found on this machine and none could be installed. Tests skip on it; every
// other failure of Start is a fault.
var ErrUnavailable = errors.New("postgresql is not available")

// Superuser is the name of the database superuser that Start creates.
const Superuser = "postgres"

// Config says what to start. The zero value of every field but Dir is usable.
type Config struct {
	// Dir is the wished directory: data, password and log live below it. It is created when missing. When the database user
	// cannot reach it, Start takes another one and says so in Server.Notice.
	Dir string
	// Port is the TCP port on 127.0.0.1; 0 takes a free one.
	Port int
	// Log gets what a person may want to know, never a password. Nil logs nothing.
	Log *slog.Logger
	// Fast gives up durability for speed (fsync off). For tests only: a crash of the machine loses the data.
	Fast bool
}

// Server is a running private PostgreSQL. Its methods may be called from several goroutines.
type Server struct {
	config   Config
	log      *slog.Logger
	bin      binaries
	user     identity
	dir      string // the directory taken: Config.Dir or the one instead of it
	socket   string // directory of the unix socket
	notice   string
	port     int
	password string
	lock     *os.File

	mu   sync.Mutex
	proc *process // nil when stopped
}

const (
	// startTimeout bounds one start of the server, crash recovery included.
	startTimeout = 60 * time.Second
	// portTries bounds how often a start with a free port is repeated when another program takes that port first.
	portTries = 5
)

// Start starts a private server, or says in one sentence what stands in the way and what to do about it. The server stops
// when Stop or Kill is called; on Linux it also goes when this process dies.
func Start(ctx context.Context, config Config) (_ *Server, err error) {
	if config.Dir == "" {
		return nil, errors.New("postgres: Config.Dir is empty: name a directory for the database")
	}
	if config.Port < 0 || config.Port > 65535 {
		return nil, fmt.Errorf("postgres: port %d is not between 0 and 65535", config.Port)
	}
	s := &Server{config: config, log: config.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.prepare(ctx); err != nil {
		s.release()
		return nil, err
	}
	if err := s.launch(ctx); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// prepare does everything up to the first start: user, directory, lock, binaries, data.
func (s *Server) prepare(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("postgres: start: %w", context.Cause(ctx))
	}
	wished, err := filepath.Abs(s.config.Dir)
	if err != nil {
		return fmt.Errorf("postgres: resolve directory %s: %w", s.config.Dir, err)
	}
	if s.user, err = databaseUser(); err != nil {
		return err
	}
	if s.dir, s.notice, err = takeDirectory(ctx, wished, s.user); err != nil {
		return err
	}
	if s.notice != "" {
		s.log.InfoContext(ctx, "database directory moved", "reason", s.notice)
	}
	if s.lock, err = lockDirectory(s.dir); err != nil {
		return err
	}
	if s.bin, err = findBinaries(ctx, s.log, s.user, dataMajor(s.DataDir())); err != nil {
		return err
	}
	if err := s.clearStale(ctx); err != nil {
		return err
	}
	if err := s.ensureData(ctx); err != nil {
		return err
	}
	if s.socket, err = socketDirectory(s.dir, s.user); err != nil {
		return err
	}
	return s.writeAccess()
}

// launch starts the server and waits until it answers. With a free port, a port lost to another program between the
// choice and the start is replaced.
func (s *Server) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("postgresql did not become ready in "+startTimeout.String()))
	defer cancel()
	for try := 1; ; try++ {
		port := s.port
		if port == 0 {
			var err error
			if port, err = choosePort(s.config.Port); err != nil {
				return err
			}
		}
		err := s.launchOn(ctx, port)
		if err == nil {
			if s.port == 0 { // it never changes, and others may read it during a restart
				s.port = port
			}
			return nil
		}
		if !errors.Is(err, errPortBusy) || s.config.Port != 0 || s.port != 0 || try == portTries {
			return err
		}
	}
}

// URL returns the connection string of user for database, with the password of the user: the superuser's own, or
// Password(user) for a role of the product. Never log it.
func (s *Server) URL(user, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(user, s.Password(user)),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable", // loopback only
	}
	return u.String()
}

// Password returns the password of a user: the random one of the superuser, or for another role one derived from it, the
// same at every start. The role has it only after somebody set it, for example with migrations.SetPasswords.
func (s *Server) Password(user string) string {
	if user == Superuser {
		return s.password
	}
	h := hmac.New(sha256.New, []byte(s.password))
	h.Write([]byte("keyward role password\x00" + user))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Port returns the TCP port on 127.0.0.1. It stays the same over Restart.
func (s *Server) Port() int { return s.port }

// DataDir returns the data directory of the server (PGDATA).
func (s *Server) DataDir() string { return filepath.Join(s.dir, "data") }

// LogFile returns the file that the server logs to.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "server.log") }

// Notice returns a sentence for people when another directory than Config.Dir had to be taken, else "".
func (s *Server) Notice() string { return s.notice }

// Version returns the version of the server program, for example "15.18".
func (s *Server) Version() string { return s.bin.version }

// release gives back what prepare took.
func (s *Server) release() {
	if s.lock != nil {
		_ = s.lock.Close() // closing releases the lock; nothing was written
		s.lock = nil
	}
	if s.socket != "" && !within(s.dir, s.socket) {
		_ = os.RemoveAll(s.socket) // only a socket could be left in it
	}
	s.socket = ""
}
