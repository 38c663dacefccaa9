// Package bank simulates the bank's core system behind posp: accounts with PINs and balances, a book of what was booked
// and what was reversed, and bad manners on demand.
//
// It speaks the dialect of docs/dialect-core.md with packing and cryptography of its own and shares no code with the
// services that it tests. docs/bank-sim.md says what it decides where that page leaves a choice.
//
// Read process.go first: it is the way of one message from the frame to the answer.
package bank

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Config describes a simulated bank. All keys are test keys.
type Config struct {
	// Addr is the TCP address to listen on; "127.0.0.1:7101" in dev mode, port 0 for a free one.
	Addr string
	// ZPK is the clear zone PIN key, 16 bytes, under which field 52 arrives.
	ZPK []byte
	// ZAK is the clear zone MAC key, 16 bytes. The digests in StateFile are keyed from it too.
	ZAK []byte
	// Accounts are the cards the bank knows. Nil means DefaultAccounts.
	Accounts []Account
	// IssuerCode, 1 to 11 printable characters, adds field 44 to answers of financial messages.
	IssuerCode string
	// StateFile keeps the book across restarts. Empty: in memory only.
	StateFile string
	// Log receives what happens to connections and files. Nil discards it.
	Log *slog.Logger
	// Now is the clock; settlement dates are in its location. Nil means time.Now.
	Now func() time.Time
}

// String hides the keys.
func (Config) String() string { return "bank.Config{***}" }

// GoString hides the keys.
func (c Config) GoString() string { return c.String() }

// LogValue hides the keys.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Bank is one simulated bank. Its methods may be called from any goroutine.
type Bank struct {
	addr       string
	issuerCode string
	stateFile  string
	log        *slog.Logger
	now        func() time.Time
	zpk        cipher.Block
	zak        macKey
	digest     digestKey

	book    *book
	faults  *faultTable
	history *history
	held    *heldAnswers
	dirty   chan struct{} // Capacity 1: the book has changed since the last save.

	life struct {
		sync.Mutex
		started, stopped bool
		stop             chan struct{} // Closed by Stop.
		bound            string        // Address with the real port, once started.
		listener         net.Listener  // Nil while refusing.
		sessions         map[*session]struct{}
		nextID           uint64
	}
	control sync.Mutex // One change of faults at a time; taken before life.
	work    sync.WaitGroup
}

// New checks the configuration and loads the state file. It does not listen yet.
func New(cfg Config) (*Bank, error) {
	zpk, err := newPINKey(cfg.ZPK)
	if err != nil {
		return nil, fmt.Errorf("bank: zone PIN key: %w", err)
	}
	zak, err := newMACKey(cfg.ZAK)
	if err != nil {
		return nil, fmt.Errorf("bank: zone MAC key: %w", err)
	}
	if _, _, err := net.SplitHostPort(cfg.Addr); err != nil {
		return nil, fmt.Errorf("bank: address to listen on, need host:port: %w", err)
	}
	if !text.holds([]byte(cfg.IssuerCode)) || len(cfg.IssuerCode) > issuerCodeSize {
		return nil, fmt.Errorf("bank: issuer code: need at most %d printable characters", issuerCodeSize)
	}
	accounts := cfg.Accounts
	if accounts == nil {
		accounts = DefaultAccounts()
	}
	b := &Bank{
		addr: cfg.Addr, issuerCode: cfg.IssuerCode, stateFile: cfg.StateFile,
		log: cfg.Log, now: cfg.Now, zpk: zpk, zak: zak, digest: newDigestKey(cfg.ZAK),
		faults: newFaultTable(), history: newHistory(), held: newHeldAnswers(), dirty: make(chan struct{}, 1),
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.now == nil {
		b.now = time.Now
	}
	if b.book, err = newBook(accounts, b.digest); err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	if b.stateFile != "" {
		if err := b.loadState(); err != nil {
			return nil, fmt.Errorf("bank: %w", err)
		}
	}
	b.life.stop = make(chan struct{})
	b.life.sessions = map[*session]struct{}{}
	return b, nil
}

// Start listens and returns; ctx bounds the start only. A bank starts once.
func (b *Bank) Start(ctx context.Context) error {
	b.life.Lock()
	defer b.life.Unlock()
	if b.life.started || b.life.stopped {
		return errors.New("bank: already started or stopped; make a new one")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", b.addr)
	if err != nil {
		return fmt.Errorf("bank: listen on %s, is another bank running: %w", b.addr, err)
	}
	b.life.started = true
	b.life.bound = l.Addr().String()
	b.serve(l)
	if b.stateFile != "" {
		b.work.Go(b.saveLoop)
	}
	b.log.InfoContext(ctx, "bank simulator listens", slog.String("addr", b.life.bound))
	return nil
}

// Stop closes the listener and all connections, waits for their goroutines and saves the book. It may be called again and
// before Start. ctx bounds the waiting; the error names what did not end in time.
func (b *Bank) Stop(ctx context.Context) error {
	b.control.Lock()
	defer b.control.Unlock()
	b.faults.stopTimers()
	b.life.Lock()
	first := b.life.started && !b.life.stopped
	if !b.life.stopped {
		close(b.life.stop)
	}
	b.life.stopped = true
	b.stopListening()
	b.closeSessions()
	b.life.Unlock()

	ended := make(chan struct{})
	go func() {
		b.work.Wait()
		close(ended)
	}()
	var failed []error
	select {
	case <-ended:
	case <-ctx.Done():
		failed = append(failed, fmt.Errorf("bank: connections still running: %w", context.Cause(ctx)))
	}
	b.held.drop()
	if first && b.stateFile != "" {
		if err := b.saveState(); err != nil {
			failed = append(failed, fmt.Errorf("bank: %w", err))
		}
	}
	return errors.Join(failed...)
}

// Addr is the bound address, with the real port once started.
func (b *Bank) Addr() string {
	b.life.Lock()
	defer b.life.Unlock()
	if b.life.bound == "" {
		return b.addr
	}
	return b.life.bound
}

// Reset puts balances and PIN tries back to the configuration and empties book and history. Faults, held answers,
// connections and their sign-on stay.
func (b *Bank) Reset() {
	b.book.reset()
	b.history.reset()
	b.touch()
}

// touch asks for a save soon.
func (b *Bank) touch() {
	select {
	case b.dirty <- struct{}{}:
	default:
	}
}
