//go:build cgo

package pkcs11

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// TestLMKKey: a token whose LMK key is missing, doubtful, or could leave it, is no member.
func TestLMKKey(t *testing.T) {
	t.Parallel()
	need(t)
	for label, want := range map[string][]string{
		"no LMK":          {"no secret key", `"LMK"`},
		"two LMKs":        {"more than one"},
		"short LMK":       {"no AES-256 key"},
		"extractable LMK": {"CKA_EXTRACTABLE must be false", "docs/hsm-driver.md"},
		"open LMK":        {"CKA_DECRYPT must be false", "CKA_SENSITIVE must be true"},
		"no unwrap":       {"CKA_UNWRAP must be true"},
	} {
		openFails(t, token{label}.settings(), want...)
	}
	at := newToken(t)
	openFails(t, at.settings(settingLMKLabel, "other"), `"other"`, "lmk_label")
}

// TestReplacedLMK: a token whose LMK key is replaced while we are connected shows another check value, and none when it is gone.
func TestReplacedLMK(t *testing.T) {
	t.Parallel()
	at := spoiledToken(t)
	c := open(t, at.settings())
	s, _ := c.ch.(*session)
	if err := s.lib.ctx.DestroyObject(s.handle, s.lmk); err != nil {
		t.Fatal(err)
	}
	if _, err := s.lib.ctx.CreateObject(s.handle, lmkObject(otherLMK)); err != nil {
		t.Fatal(err)
	}
	got, err := c.Diagnose(t.Context())
	if err != nil || got.LMKCheck != kcvOf(t, otherLMK) {
		t.Errorf("the check value is %s (%v), want that of the new key", got.LMKCheck, err)
	}
	if err := s.lib.ctx.DestroyObject(s.handle, s.lmk); err != nil {
		t.Fatal(err)
	}
	_, err = c.Diagnose(t.Context())
	wantClass(t, "without an LMK key", err, command.MemberFault, "load the LMK key")
	lost(t, c.ch)
}

// TestKeyOfAnotherLMK: a key that was wrapped under another LMK is refused, and nothing else happens.
func TestKeyOfAnotherLMK(t *testing.T) {
	t.Parallel()
	c := open(t, newToken(t).settings())
	foreign := wrapUnder(t, otherLMK, []byte("a public test key for seal MACs."))
	_, err := c.MAC(t.Context(), macOf(foreign))
	wantClass(t, "MAC", err, command.CallerFault, "under another key")
	if _, err := c.Diagnose(t.Context()); err != nil || !alive(c.ch) {
		t.Errorf("the session afterwards: %v", err)
	}
}

func TestFindingTheToken(t *testing.T) {
	t.Parallel()
	at, twin := newToken(t), token{"twin"}
	openFails(t, token{"no such"}.settings(), `"no such"`, "put the token back")
	openFails(t, twin.settings(), "two tokens", "slot")
	slot := strconv.FormatUint(uint64(at.slot(t)), 10)
	c := open(t, at.settings(settingToken, "", settingSlot, slot))
	if _, err := c.Diagnose(t.Context()); err != nil {
		t.Error(err)
	}
	openFails(t, at.settings(settingToken, "", settingSlot, "4294967295"), "CKR_SLOT_ID_INVALID", "label")
}

func TestAddress(t *testing.T) {
	t.Parallel()
	need(t)
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := makeDriver(t, token{"a"}.settings())
	for addr, want := range map[string]string{
		"": "absolute path", "libsofthsm2.so": "absolute path", "127.0.0.1:1500": "absolute path", "/no/such.so": "install it", text: "cannot be loaded",
	} {
		ch, err := d.Open(t.Context(), driver.Target{Name: "hsm1", Addr: addr})
		if err == nil {
			ch.Close(errTestOver)
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "hsm1") {
			t.Errorf("address %q: %v", addr, err)
		}
	}
	_, err := d.Open(t.Context(), driver.Target{Name: "hsm1", Addr: lab.module, TLS: &tls.Config{MinVersion: tls.VersionTLS13}})
	if err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("with TLS: %v", err)
	}
}

// TestWrongPINIsTriedOnce: whatever probes the member, a token that counts tries is not locked by it.
func TestWrongPINIsTriedOnce(t *testing.T) {
	t.Parallel()
	at := newToken(t)
	logins := at.count(t, "C_Login")
	file := filepath.Join(t.TempDir(), "pin")
	const wrongPIN = "7391-wrong"
	write := func(pin string, age time.Duration) {
		if err := errors.Join(os.WriteFile(file, []byte(pin), 0o600), os.Chtimes(file, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	write(wrongPIN, time.Hour)
	wrong := at.settings(settingPINFile, file)
	for range 3 {
		openFails(t, wrong, at.label, nextPIN)
	}
	if n := logins(); n != 1 {
		t.Errorf("%d logins with a PIN that was refused, want 1", n)
	}
	_, err := makeDriver(t, wrong).Open(t.Context(), driver.Target{Name: "hsm1", Addr: lab.module})
	if err == nil || strings.Contains(err.Error(), wrongPIN) {
		t.Errorf("the error %v shows the PIN, or there is none", err)
	}
	write(wrongPIN+"\n", time.Minute) // somebody has written the file again: one more try
	openFails(t, wrong, "CKR_PIN_INCORRECT")
	openFails(t, wrong, nextPIN)
	if n := logins(); n != 2 {
		t.Errorf("%d logins after the file was written again, want 2", n)
	}
	write(testPIN+"\r\n", 0)
	open(t, wrong)
}

func TestPINFile(t *testing.T) {
	t.Parallel()
	at, dir := newToken(t), t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	openFails(t, at.settings(settingPINFile, ""), "set pin_file")
	openFails(t, at.settings(settingPINFile, filepath.Join(dir, "none")), "pin_file", "no such file")
	openFails(t, at.settings(settingPINFile, dir), "not a plain file")
	openFails(t, at.settings(settingPINFile, file("empty", "", 0o600)), "empty")
	openFails(t, at.settings(settingPINFile, file("blank", "\n1234\n", 0o600)), "0 characters")
	openFails(t, at.settings(settingPINFile, file("long", strings.Repeat("1", 300), 0o600)), "1 to 255")
	openFails(t, at.settings(settingPINFile, file("open", testPIN, 0o604)), "chmod 0600")
	open(t, at.settings(settingPINFile, file("good", testPIN, 0o640)))
}

// TestLoginResults: what can be done about a login that fails.
func TestLoginResults(t *testing.T) {
	t.Parallel()
	for what, want := range map[string]string{
		"0xA4": "security officer", "0xA3": "new PIN", "0x102": "C_InitPIN", "0x104": "another user", "0x30": "CKR_DEVICE_ERROR",
	} {
		at := newToken(t)
		at.fault(t, "C_Login", what)
		openFails(t, at.settings(), "log in", want)
	}
	locked, last := p11.TokenInfo{Label: "a", Flags: p11.CKF_USER_PIN_LOCKED}, p11.TokenInfo{Label: "a", Flags: p11.CKF_USER_PIN_FINAL_TRY}
	if err := checkTries(locked); err == nil || !strings.Contains(err.Error(), "CKR_PIN_LOCKED") {
		t.Errorf("a locked token: %v", err)
	}
	if err := checkTries(last); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("the last try: %v", err)
	}
}

// TestLibraryIsUnloaded: with the last session the library goes, and comes again with the next. No other test may use it meanwhile, so
// this one and the following are not parallel.
func TestLibraryIsUnloaded(t *testing.T) {
	at := newToken(t)
	d := makeDriver(t, at.settings())
	var before *library
	for range 3 {
		one, err := d.Open(t.Context(), driver.Target{Name: "hsm1", Addr: lab.module})
		if err != nil {
			t.Fatal(err)
		}
		two, err := d.Open(t.Context(), driver.Target{Name: "hsm1", Addr: lab.module})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := one.(*session)
		if s.lib == before {
			t.Error("the library was not unloaded")
		}
		before = s.lib
		one.Close(errTestOver)
		one.Close(errTestOver)
		if again, _ := two.(*session); again.lib != s.lib {
			t.Error("the library was loaded twice at once")
		}
		two.Close(errTestOver)
		select {
		case <-before.gone:
		case <-time.After(patience):
			t.Fatal("the library stays")
		}
	}
}

// TestHangingLoad: a library that hangs while it is initialised holds up nobody beyond his time, and comes later.
func TestHangingLoad(t *testing.T) {
	at := newToken(t)
	awaitUnloaded(t)
	mend := setFault(t, filepath.Join(lab.faults, "all"), "C_Initialize", "hang")
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := makeDriver(t, at.settings()).Open(ctx, driver.Target{Name: "hsm1", Addr: lab.module})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it hangs: %v", err)
		}
	}
	mend()
	open(t, at.settings())
}

// TestFailingLoad: a refusal is not kept for ever.
func TestFailingLoad(t *testing.T) {
	at := newToken(t)
	awaitUnloaded(t)
	mend := setFault(t, filepath.Join(lab.faults, "all"), "C_Initialize", "0x30")
	openFails(t, at.settings(), "C_Initialize", "CKR_DEVICE_ERROR")
	mend()
	open(t, at.settings())
}

func awaitUnloaded(tb testing.TB) {
	tb.Helper()
	path, err := filepath.EvalSymlinks(lab.module)
	if err != nil {
		tb.Fatal(err)
	}
	libraries.Lock()
	l := libraries.byPath[path]
	libraries.Unlock()
	if l == nil {
		return
	}
	select {
	case <-l.gone:
	case <-time.After(patience):
		tb.Fatal("the library stays")
	}
}

// TestHangingToken: a token that does not even say what it is holds up nobody beyond his time, and no token that was found before. It is
// not parallel because it would hold up tests that look for their tokens.
func TestHangingToken(t *testing.T) {
	at, other := newToken(t), newToken(t)
	open(t, other.settings())
	ctx := at.untilCalled(t, "C_GetTokenInfo", 1)
	mend := at.fault(t, "C_GetTokenInfo", "hang")
	_, err := makeDriver(t, at.settings()).Open(ctx, driver.Target{Name: "hsm1", Addr: lab.module})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it hangs: %v", err)
	}
	open(t, other.settings())
	mend()
	open(t, at.settings())
}

// TestStuckCallsAreBounded: above the limit nothing more is asked for the token, below it again work goes on, and other tokens of the
// library notice nothing.
func TestStuckCallsAreBounded(t *testing.T) {
	t.Parallel()
	at, other := newToken(t), newToken(t)
	beside, last := open(t, other.settings()), open(t, at.settings())
	sessions := make([]*talk, maxStuck)
	for i := range sessions {
		sessions[i] = open(t, at.settings())
	}
	mend := at.fault(t, "C_GenerateRandom", "hang")
	ctx := at.untilCalled(t, "C_GenerateRandom", len(sessions))
	var asking sync.WaitGroup
	for _, c := range sessions {
		asking.Go(func() {
			if _, err := c.Random(ctx, 8); err == nil || driver.NotSent(err) {
				t.Errorf("a hanging call: %v", err)
			}
		})
	}
	asking.Wait()
	_, err := last.Random(t.Context(), 8)
	wantClass(t, "one call more", err, command.MemberFault, "hang in the PKCS#11 library")
	if !driver.NotSent(err) || !alive(last.ch) {
		t.Errorf("got %v, want that nothing went out and the session lives", err)
	}
	openFails(t, at.settings(), "hang in the PKCS#11 library")
	if _, err := beside.Random(t.Context(), 8); err != nil {
		t.Errorf("another token: %v", err)
	}
	open(t, other.settings())
	mend()
	s, _ := last.ch.(*session)
	for deadline := time.Now().Add(patience); s.stuck.Load() > 0; time.Sleep(time.Millisecond) { // there is no signal out of the library
		if time.Now().After(deadline) {
			t.Fatalf("%d calls are still counted as stuck", s.stuck.Load())
		}
	}
	if _, err := last.Random(t.Context(), 8); err != nil {
		t.Error(err)
	}
}
