package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/internal/dev/pki"
	"github.com/keyward/keyward/internal/dev/supervise"
	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/pgpool"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
)

const (
	databaseName = "keyward"
	// databaseStop is longer than the database's own orderly stop (15 s).
	databaseStop = 20 * time.Second
)

// Clients with certificates, by the name that audit shows.
var certificateNames = []string{"posp", "posv", operatorName, "keyward-dev"}

// operatorName is the operator of HSMs in dev mode.
const operatorName = "operator"

// Options say what to run.
type Options struct {
	DataDir   string // everything that is kept lies below it, or where it says
	Offset    int    // added to every port
	Terminals int    // with an issued card each
	Traffic   bool   // make transactions on terminals 10000101 up
	Rate      float64
	BinDir    string    // where the programs are; empty: beside this one
	Out       io.Writer // for people
	Log       *slog.Logger
	// Fast gives up the database's durability: for a system that is thrown away.
	Fast bool
	// HostTimeout is how long posp waits for the bank; 0 is its default.
	HostTimeout time.Duration
}

// complete checks the options and fills in what has a default.
func (o *Options) complete() error {
	if o.Offset < 0 || o.Offset > maxOffset {
		return fmt.Errorf("--port-offset %d: must be between 0 and %d", o.Offset, maxOffset)
	}
	if o.Terminals < 0 || o.Terminals > maxTerminals {
		return fmt.Errorf("--terminals %d: must be between 0 and %d, because terminal numbers are 1000NNNN", o.Terminals, maxTerminals)
	}
	if o.Traffic && !(o.Rate > 0 && o.Rate <= maxRate) {
		return fmt.Errorf("--rate %g: must be above 0 and at most %d per second", o.Rate, maxRate)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.BinDir == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the programs: %w", err)
		}
		if self, err = filepath.EvalSymlinks(self); err != nil {
			return fmt.Errorf("find the programs: %w", err)
		}
		o.BinDir = filepath.Dir(self)
	}
	for _, name := range []string{"keyward", "posp", "posv", "issuer"} {
		if _, err := os.Stat(filepath.Join(o.BinDir, name)); err != nil {
			return fmt.Errorf("program %s is missing beside keyward in %s: build all of them with `make build`", name, o.BinDir)
		}
	}
	return nil
}

// maxRate is the most transactions per second that the simulators' traffic takes.
const maxRate = 1000

// errInterrupted says that somebody pressed Ctrl-C before the system was ready.
var errInterrupted = errors.New("interrupted while starting")

// System is everything, running. Make one with Start; Stop it once.
type System struct {
	Services
	// Cards is how many cards this start issued.
	Cards int

	opt       Options
	layout    layout
	lock      *dirLock
	database  *postgres.Server
	processes *supervise.Supervisor
	watches   []watch
	stopping  atomic.Bool     // Stop has begun: what ends now ends on purpose
	patience  context.Context //nolint:containedctx // It is a state of the system: ended by kill, after which nothing is waited for.
	impatient context.CancelFunc

	mu     sync.Mutex // guards database and processes for Kill, which may come during Start
	killed bool
}

// Start brings everything up, in the order in which the parts need each other. After an error nothing is left running. It stays one
// function because each step needs values of earlier ones.
//
// kill, when closed, ends everything at once, also in the middle of Start or Stop.
func Start(ctx context.Context, opt Options, kill <-chan struct{}) (s *System, err error) {
	if err := opt.complete(); err != nil {
		return nil, err
	}
	if err := service.DisableCoreDumps(); err != nil {
		return nil, fmt.Errorf("switch core dumps off: %w", err)
	}
	raiseFileLimit(opt.Log)

	// Step 1: the data directory is ours alone, and nothing of a run that was killed is left.
	s = &System{opt: opt}
	s.patience, s.impatient = context.WithCancel(context.Background())
	if s.layout, s.lock, err = open(opt.DataDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(hinted(err), s.Stop())
			s = nil
		}
	}()
	s.watch(ctx, func(ctx context.Context) {
		select {
		case <-kill:
			s.kill()
		case <-ctx.Done():
		}
	})
	if err := supervise.Leftovers(ctx, s.layout.pids()); err != nil {
		return s, err
	}

	// Step 2: nobody else has our ports.
	if err := checkPorts(ctx, opt.Offset); err != nil {
		return s, err
	}

	// Step 3: the database with the newest schema, and a password for each role in a file of its own.
	s.say("Starting PostgreSQL ...")
	if err := s.startDatabase(ctx); err != nil {
		return s, err
	}
	s.watch(ctx, s.watchDatabase)

	// Step 4: certificates and the key that signs orders.
	certificates, err := pki.Ensure(s.layout.path("pki"), []string{loopback, "localhost"}, certificateNames, time.Now())
	if err != nil {
		return s, err
	}

	terminals, err := pki.EnsureTerminals(s.layout.path("pki", "terminals"), []string{loopback, "localhost"}, certified(opt.Terminals, opt.Traffic), time.Now())
	if err != nil {
		return s, err
	}

	// Step 5: the key ceremony, simulated; what comes out of it goes into the key service's store.
	testKeys, err := ceremony.Hold()
	if err != nil {
		return s, err
	}
	if err := importKeys(ctx, s.database.URL(migrations.RoleKeys, databaseName), testKeys.Store); err != nil {
		return s, err
	}

	// Step 6: configuration files.
	if err := (parts{s.layout, opt.Offset, certificates, terminals, testKeys, opt.HostTimeout}).writeConfigs(); err != nil {
		return s, err
	}

	// Step 7: the processes: simulators first, because everybody talks to them.
	if err := s.startProcesses(ctx, certificates); err != nil {
		return s, err
	}

	// Step 8: what is missing of the development data.
	s.Services = At(at(portPOSV, opt.Offset), at(portIssuer, opt.Offset), at(portOperations, opt.Offset), at(portControl, opt.Offset))
	if s.Cards, err = s.Fill(ctx, opt.Terminals, opt.Traffic); err != nil {
		return s, fmt.Errorf("make the development data: %w", err)
	}
	return s, nil
}

func (s *System) say(format string, args ...any) { _, _ = fmt.Fprintf(s.opt.Out, format+"\n", args...) }

// importKeys puts the keys of the ceremony into the key service's store, as its role.
func importKeys(ctx context.Context, url string, list []ceremony.Key) error {
	pool, err := pgpool.Open(ctx, url, 1)
	if err != nil {
		return fmt.Errorf("import the root keys: %w", err)
	}
	defer pool.Close()
	store := keystore.New(pool)
	for _, key := range list {
		if _, err := store.Import(ctx, key.Name, key.Wrapped, "key ceremony (dev)"); err != nil {
			return fmt.Errorf("import the root keys: %s: %w", key.Name, err)
		}
	}
	return nil
}

// startProcesses starts the services and waits for each to be ready.
func (s *System) startProcesses(ctx context.Context, certificates pki.Files) error {
	processes, err := supervise.New(supervise.Config{
		LogDir: s.layout.logs(), PIDFile: s.layout.pids(), Log: s.opt.Log, Tell: func(sentence string) { s.say("! %s", sentence) },
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.processes = processes
	killed := s.killed
	s.mu.Unlock()
	if killed {
		return errors.New("killed while starting")
	}
	keysReady, err := readyOverTLS(at(portKeys, s.opt.Offset), certificates.Clients["keyward-dev"], certificates.CA)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		name, program string
		args          []string
		ready         func(context.Context) error
	}{
		{"sim", "keyward", []string{"sim"}, readyOverHTTP(at(portControl, s.opt.Offset))},
		{"keys", "posp", []string{"keys", "serve"}, keysReady},
		{"posp", "posp", []string{"serve"}, readyOverHTTP(at(portOperations, s.opt.Offset))},
		{"posv", "posv", []string{"serve"}, readyOverHTTP(at(portPOSV, s.opt.Offset))},
		{"issuer", "issuer", []string{"serve"}, readyOverHTTP(at(portIssuer, s.opt.Offset))},
	} {
		s.say("Starting %s ...", p.name)
		err := processes.Start(ctx, supervise.Spec{
			Name: p.name, Path: program(s.opt.BinDir, p.program), Args: append(p.args, "--config", s.layout.config(p.name)), Ready: p.ready,
		})
		if ctx.Err() != nil {
			return fmt.Errorf("%w; nothing is left running", errInterrupted)
		}
		if err != nil {
			return fmt.Errorf("%w\nNext step: read the log above; if the data is at fault, start afresh with `make dev-reset`", err)
		}
	}
	return nil
}

// Stop stops the processes in reverse order, then the database, and frees the data directory.
func (s *System) Stop() error {
	s.stopping.Store(true)
	s.mu.Lock()
	processes, database := s.processes, s.database
	s.mu.Unlock()
	var errs []error
	if processes != nil {
		errs = append(errs, processes.Stop())
	}
	for len(s.watches) > 1 { // the first one, for kill, until the end
		s.endWatch()
	}
	if database != nil {
		ctx, cancel := context.WithTimeout(s.patience, databaseStop)
		defer cancel()
		errs = append(errs, database.Stop(ctx))
	}
	for len(s.watches) > 0 {
		s.endWatch()
	}
	s.impatient()
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// watch is one background task of the system.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// watch runs a task until Stop; the first one outlives the others.
func (s *System) watch(ctx context.Context, task func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := watch{cancel, make(chan struct{})}
	s.watches = append(s.watches, w)
	go func() {
		defer close(w.done)
		task(ctx)
	}()
}

// endWatch ends the task that began last and waits for it.
func (s *System) endWatch() {
	last := len(s.watches) - 1
	s.watches[last].cancel()
	<-s.watches[last].done
	s.watches = s.watches[:last]
}

// kill ends everything at once; what is started meanwhile finds the supervisor stopped.
func (s *System) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killed = true
	s.impatient()
	if s.processes != nil {
		s.processes.Kill()
	}
	if s.database != nil {
		s.database.Kill()
	}
}
