//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	p11 "github.com/miekg/pkcs11"
)

// maxPIN bounds a PIN in bytes; tokens take fewer.
const maxPIN = 255

// logins remember the tokens whose PIN was refused. Probing opens a session again and again; without this memory it would use up the tries
// that a token allows and lock it for everybody. It belongs to the process and not to a library, which is unloaded between two probes of
// its only member.
var logins = struct {
	sync.Mutex                            // never held while waiting
	gates      map[loginKey]chan struct{} // one login at a time with a token
	refused    map[loginKey]pinMark
}{gates: map[loginKey]chan struct{}{}, refused: map[loginKey]pinMark{}}

// loginKey is a token: the real path of its library, and its serial number.
type loginKey struct{ library, serial string }

func (k loginKey) gate() chan struct{} {
	logins.Lock()
	defer logins.Unlock()
	if logins.gates[k] == nil {
		logins.gates[k] = make(chan struct{}, 1)
	}
	return logins.gates[k]
}

// wasRefused says that the token has refused this PIN.
func (k loginKey) wasRefused(mark pinMark) bool {
	logins.Lock()
	defer logins.Unlock()
	before, known := logins.refused[k]
	return known && before == mark
}

func (k loginKey) refuse(mark pinMark) {
	logins.Lock()
	defer logins.Unlock()
	logins.refused[k] = mark
}

func (k loginKey) accept() {
	logins.Lock()
	defer logins.Unlock()
	delete(logins.refused, k)
}

// pinMark knows a PIN again without holding it.
type pinMark struct {
	digest [sha256.Size]byte
	file   string
	at     time.Time // when the file was written
}

// pinSalt makes the digests of this process worthless elsewhere.
var pinSalt = func() []byte {
	salt := make([]byte, sha256.Size)
	_, _ = rand.Read(salt) // never fails
	return salt
}()

// login logs the user in, which counts for all sessions of the process with the token.
func (l *library) login(ctx context.Context, h p11.SessionHandle, info p11.TokenInfo, pinFile string) error {
	if info.Flags&p11.CKF_LOGIN_REQUIRED == 0 {
		return nil
	}
	if pinFile == "" {
		return fmt.Errorf("the token %q wants a login: set pin_file", info.Label)
	}
	key := loginKey{l.path, info.SerialNumber}
	gate := key.gate()
	select {
	case gate <- struct{}{}:
		defer func() { <-gate }()
	case <-ctx.Done():
		return fmt.Errorf("wait for another login: %w", ctx.Err())
	}
	pin, mark, err := readPIN(pinFile)
	if err != nil {
		return err
	}
	defer clear(pin)
	if key.wasRefused(mark) {
		return fmt.Errorf("the token %q has refused the PIN in %s: %s", info.Label, pinFile, nextPIN)
	}
	if err := checkTries(info); err != nil {
		return err
	}
	// The binding wants a string; this one shares its memory with pin, which is wiped.
	err = l.ctx.Login(h, p11.CKU_USER, unsafe.String(unsafe.SliceData(pin), len(pin))) //nolint:gosec // G103: a copy could not be wiped
	switch r := resultOf(err); r {
	case ckrOK:
		key.accept()
		return nil
	case ckrAlreadyLoggedIn:
		return nil
	case ckrPINIncorrect, ckrPINInvalid, ckrPINLength:
		key.refuse(mark)
		return fmt.Errorf("log in to the token %q: %w", info.Label, r)
	default:
		return fmt.Errorf("log in to the token %q: %w", info.Label, r)
	}
}

// checkTries refuses to use up the last try of a token.
func checkTries(info p11.TokenInfo) error {
	switch {
	case info.Flags&p11.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("the token %q: %w", info.Label, ckrPINLocked)
	case info.Flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("the token %q allows one more try of the PIN before it locks: log in once by hand with the device's own tool, then probe the member", info.Label)
	}
	return nil
}

// readPIN reads the first line of the file. The caller wipes the PIN.
func readPIN(path string) ([]byte, pinMark, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, pinMark{}, fmt.Errorf("pin_file: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, pinMark{}, fmt.Errorf("pin_file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, pinMark{}, fmt.Errorf("pin_file %s is not a plain file", path)
	}
	if open := info.Mode().Perm() & 0o006; open != 0 {
		return nil, pinMark{}, fmt.Errorf("pin_file %s can be read or written by every user of this machine (mode %04o); run: chmod 0600 %s", path, info.Mode().Perm(), path)
	}
	buffer := make([]byte, maxPIN+2) // with the end of the line
	n, err := f.Read(buffer)
	if err != nil && n == 0 {
		return nil, pinMark{}, fmt.Errorf("pin_file %s cannot be read or is empty", path)
	}
	line, _, _ := bytes.Cut(buffer[:n], []byte("\n"))
	pin := bytes.TrimRight(line, "\r ")
	if len(pin) == 0 || len(pin) > maxPIN {
		clear(buffer)
		return nil, pinMark{}, fmt.Errorf("the PIN in pin_file %s has %d characters, want 1 to %d in the first line", path, len(pin), maxPIN)
	}
	digest := sha256.New()
	_, _ = digest.Write(pinSalt)
	_, _ = digest.Write(pin)
	mark := pinMark{file: path, at: info.ModTime()}
	copy(mark.digest[:], digest.Sum(nil))
	return pin, mark, nil
}
