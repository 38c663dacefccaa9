//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// lost waits until the session has ended.
func lost(tb testing.TB, ch driver.Channel) {
	tb.Helper()
	select {
	case <-ch.Done():
	case <-time.After(patience):
		tb.Fatal("the session has not ended")
	}
	if ch.Cause() == nil {
		tb.Error("the session has ended without a cause")
	}
}

// timed is a context whose deadline comes when the test says so.
type timed struct {
	context.Context //nolint:containedctx // It is a context itself.
	over            chan struct{}
}

func (c timed) Done() <-chan struct{} { return c.over }

func (c timed) Err() error {
	select {
	case <-c.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// untilCalled is a context that ends by its deadline when the function has been called n times more: there is no signal out of the
// library, so it looks again and again.
func (k token) untilCalled(tb testing.TB, function string, n int) context.Context {
	tb.Helper()
	calls := k.count(tb, function)
	c := timed{tb.Context(), make(chan struct{})}
	go func() {
		defer close(c.over)
		for deadline := time.Now().Add(patience); calls() < n && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		}
	}()
	return c
}

func alive(ch driver.Channel) bool {
	select {
	case <-ch.Done():
		return false
	default:
		return true
	}
}

// TestResultsAreClassed: what the token answers, and what becomes of the session.
func TestResultsAreClassed(t *testing.T) {
	t.Parallel()
	at, key := newToken(t), sealKey(t)
	for _, c := range []struct {
		function, what string
		class          command.Class
		text           string
		ends           bool
	}{
		{"C_Sign", "0x30", command.MemberFault, "CKR_DEVICE_ERROR", true},
		{"C_Sign", "0x32", command.MemberFault, "connect the device again", true},
		{"C_Sign", "0xE0", command.MemberFault, "CKR_TOKEN_NOT_PRESENT", true},
		{"C_Sign", "0xB3", command.MemberFault, "CKR_SESSION_HANDLE_INVALID", true},
		{"C_Sign", "0x101", command.MemberFault, "pin_file", true},
		{"C_Sign", "0x80000001", command.MemberFault, "CKR_VENDOR_DEFINED", true},
		{"C_Sign", "0x5", command.MemberFault, "log of the PKCS#11 library", true},
		{"C_Sign", "0x70", command.NoLicence, "CKR_MECHANISM_INVALID", false},
		{"C_Sign", "0x54", command.NoLicence, "CKR_FUNCTION_NOT_SUPPORTED", false},
		{"C_Sign", "0x68", command.NoLicence, "attribute", false},
		{"C_Sign", "0x7", command.CallerFault, "CKR_ARGUMENTS_BAD", false},
		{"C_Sign", "0x21", command.CallerFault, "CKR_DATA_LEN_RANGE", false},
		{"C_Sign", "short", command.MemberFault, "MAC of 8 bytes", true},
		{"C_UnwrapKey", "0x110", command.CallerFault, "another key", false},
		{"C_UnwrapKey", "0xF0", command.MemberFault, "LMK key was taken out", true},
		{"C_UnwrapKey", "0x5", command.CallerFault, "another key", false}, // the LMK key works
		{"C_DestroyObject", "0x82", 0, "", false},
	} {
		conversation := open(t, at.settings())
		mend := at.fault(t, c.function, c.what)
		_, err := conversation.MAC(t.Context(), macOf(key))
		mend()
		name := c.function + " answers " + c.what
		if c.class != 0 {
			wantClass(t, name, err, c.class, c.text, c.function)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if driver.NotSent(err) {
			t.Errorf("%s: as if nothing had been sent", name)
		}
		if c.ends {
			lost(t, conversation.ch)
		} else if _, err := conversation.MAC(t.Context(), macOf(key)); err != nil {
			t.Errorf("%s: the session is of no use afterwards: %v", name, err)
		}
		if poisoned := c.what == "short"; conversation.ch.Poisoned() != poisoned || errors.Is(err, driver.ErrMalformed) != poisoned {
			t.Errorf("%s: poisoned is %t", name, conversation.ch.Poisoned())
		}
	}
}

// TestUnwrapFailsWithTheToken: a general error of a token that does not work any more is no verdict on the wrapped key.
func TestUnwrapFailsWithTheToken(t *testing.T) {
	t.Parallel()
	at := newToken(t)
	c := open(t, at.settings())
	at.fault(t, "C_UnwrapKey", "0x5")
	at.fault(t, "C_Sign", "0x5")
	_, err := c.MAC(t.Context(), macOf(sealKey(t)))
	wantClass(t, "MAC", err, command.MemberFault, "CKR_GENERAL_ERROR")
	lost(t, c.ch)
}

// TestHangingCall: the caller's time ends on time, the session is given up, the token's other sessions and other tokens go on, and the
// late result is reported.
func TestHangingCall(t *testing.T) {
	t.Parallel()
	at, other, key := newToken(t), newToken(t), sealKey(t)
	lates := make(chan driver.Late, 1)
	d := makeDriver(t, at.settings())
	ch, err := d.Open(t.Context(), driver.Target{Name: "hsm1", Addr: lab.module, Late: func(l driver.Late) { lates <- l }})
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close(errTestOver)
	c, beside := &talk{d: d, ch: ch}, open(t, other.settings())
	mend := at.fault(t, "C_Sign", "hang")

	_, err = c.MAC(at.untilCalled(t, "C_Sign", 1), macOf(key))
	wantClass(t, "a hanging call", err, command.MemberFault, "C_Sign", "deadline")
	if !errors.Is(err, context.DeadlineExceeded) || driver.NotSent(err) {
		t.Errorf("the error %v does not say that the call went out and time was over", err)
	}
	lost(t, ch)
	if journal := c.taken(); journal[1].result != "no_answer" {
		t.Errorf("journalled %+v", journal)
	}
	_, err = c.MAC(t.Context(), macOf(key))
	wantClass(t, "the session afterwards", err, command.MemberFault)
	if !driver.NotSent(err) || !errors.Is(err, driver.ErrLost) {
		t.Errorf("the error %v does not say that nothing went out because the channel is lost", err)
	}
	if _, err := beside.MAC(t.Context(), macOf(key)); err != nil {
		t.Errorf("another token: %v", err)
	}
	mend()
	select {
	case l := <-lates:
		if l.Command != codeSign || l.Received != aesBlock || l.Sent == 0 || l.Took <= 0 {
			t.Errorf("the late result is reported as %+v", l)
		}
	case <-time.After(patience):
		t.Error("the late result is not reported")
	}
	if again := open(t, at.settings()); !alive(again.ch) {
		t.Error("the token cannot be opened again")
	}
}

// TestCancelledCall: a caller that hangs up in the middle.
func TestCancelledCall(t *testing.T) {
	t.Parallel()
	at := newToken(t)
	c := open(t, at.settings())
	calls := at.count(t, "C_GenerateRandom")
	at.fault(t, "C_GenerateRandom", "hang")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for calls() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // there is no signal out of the library
		}
		cancel()
	}()
	_, err := c.Random(ctx, 8)
	wantClass(t, "cancelled", err, command.Unavailable)
	if !errors.Is(err, context.Canceled) || driver.NotSent(err) {
		t.Errorf("got %v", err)
	}
	lost(t, c.ch)
}

// TestCloseFailsWhatIsUnderWay: closing ends a hanging call, and one that waits behind it.
func TestCloseFailsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	at := newToken(t)
	c := open(t, at.settings())
	calls := at.count(t, "C_GenerateRandom")
	mend := at.fault(t, "C_GenerateRandom", "hang")
	errs := make(chan error, 2)
	for range 2 {
		go func() { _, err := c.Random(t.Context(), 8); errs <- err }()
	}
	for calls() == 0 {
		time.Sleep(time.Millisecond) // there is no signal out of the library
	}
	c.ch.Close(errTestOver)
	unsent := 0
	for range 2 {
		select {
		case err := <-errs:
			wantClass(t, "under way at closing", err, command.MemberFault, errTestOver.Error())
			if !errors.Is(err, driver.ErrLost) {
				t.Errorf("got %v", err)
			}
			if driver.NotSent(err) {
				unsent++
			}
		case <-time.After(patience):
			t.Fatal("the call goes on")
		}
	}
	if unsent != 1 {
		t.Errorf("%d calls were not sent, want 1", unsent)
	}
	mend()
}

// TestHangingOpen: no part of opening holds up a caller beyond its time.
func TestHangingOpen(t *testing.T) {
	t.Parallel()
	for _, function := range []string{"C_OpenSession", "C_Login", "C_FindObjects", "C_GetAttributeValue"} {
		at := newToken(t)
		ctx := at.untilCalled(t, function, 1)
		mend := at.fault(t, function, "hang")
		ch, err := makeDriver(t, at.settings()).Open(ctx, driver.Target{Name: "hsm1", Addr: lab.module})
		if err == nil {
			ch.Close(errTestOver)
		}
		if err == nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s hangs: %v", function, err)
		}
		mend()
		open(t, at.settings())
	}
}

// TestSessionKilled: somebody closes all sessions of the token.
func TestSessionKilled(t *testing.T) {
	t.Parallel()
	at, key := newToken(t), sealKey(t)
	c := open(t, at.settings())
	s, _ := c.ch.(*session)
	if err := s.lib.ctx.CloseAllSessions(s.slot); err != nil {
		t.Fatal(err)
	}
	_, err := c.MAC(t.Context(), macOf(key))
	wantClass(t, "MAC", err, command.MemberFault, "CKR_SESSION_HANDLE_INVALID")
	lost(t, c.ch)
	if _, err := open(t, at.settings()).MAC(t.Context(), macOf(key)); err != nil {
		t.Errorf("in a new session: %v", err)
	}
}

// deleteToken takes the token's directory away from SoftHSM2: it is named by a UUID that ends like the serial number. It is moved at once
// instead of removed bit by bit, because SoftHSM2 writes into it meanwhile.
func deleteToken(tb testing.TB, serial string) {
	tb.Helper()
	list, err := filepath.Glob(filepath.Join(lab.tokens, "*"+serial[:4]+"-"+serial[4:]))
	if err != nil || len(list) != 1 {
		tb.Fatalf("the directory of token %s: %v, %v", serial, list, err)
	}
	if err := os.Rename(list[0], filepath.Join(filepath.Dir(lab.tokens), "deleted "+serial)); err != nil {
		tb.Fatal(err)
	}
}

// TestTokenDeleted: every sign of life says that the token is gone.
func TestTokenDeleted(t *testing.T) {
	t.Parallel()
	at := spoiledToken(t)
	before := open(t, at.settings())
	diagnosis, err := before.Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sessions := []*talk{before, open(t, at.settings()), open(t, at.settings())}
	deleteToken(t, diagnosis.Serial)
	_, err = sessions[0].Diagnose(t.Context())
	wantClass(t, "diagnosis", err, command.MemberFault)
	wantClass(t, "probe", sessions[1].d.Probe(t.Context(), sessions[1], ""), command.MemberFault, "LMK")
	_, err = sessions[2].MAC(t.Context(), macOf(sealKey(t)))
	wantClass(t, "MAC", err, command.MemberFault)
	for _, c := range sessions {
		lost(t, c.ch)
	}
	openFails(t, at.settings())
}

func auditKey(label string) command.NewKey {
	return command.NewKey{Label: label, Usage: keys.Seal, Algorithm: keys.AES}
}

// TestStoreKeyWithoutAnswer: the caller learns that the outcome is unknown, and can look.
func TestStoreKeyWithoutAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		function, what string
		class          command.Class
		stored         bool
	}{
		{"C_GenerateKey", "hang", command.Unknown, true}, // made after all, later
		{"C_GenerateKey", "after 0x30", command.Unknown, true},
		{"C_GenerateKey", "0x30", command.Unknown, false},
		{"C_GenerateKey", "0xB3", command.Unknown, false},
		{"C_GenerateKey", "0xE2", command.NoLicence, false},
		{"C_GenerateKey", "0x13", command.NoLicence, false},
		{"C_GetAttributeValue", "0x30", command.Unknown, true},
		{"C_Sign", "0x30", command.Unknown, true},
		{"C_Sign", "hang", command.Unknown, true},
		{"C_FindObjects", "0x30", command.MemberFault, false}, // before anything was made
	} {
		at, name := newToken(t), c.function+" "+c.what
		beside := open(t, at.settings()) // keeps the library loaded
		conversation := open(t, at.settings())
		mend := at.fault(t, c.function, c.what)
		ctx := t.Context()
		if c.what == "hang" {
			ctx = at.untilCalled(t, c.function, 1)
		}
		_, err := conversation.StoreKey(ctx, auditKey("audit"))
		mend()
		wantClass(t, name, err, c.class)
		if c.class == command.Unknown && driver.NotSent(err) {
			t.Errorf("%s: %v could be taken as not sent", name, err)
		}
		// A call that hung is made late, on its own goroutine; only then the session is closed.
		s, _ := conversation.ch.(*session)
		s.Close(errTestOver)
		s.awaitRetired(t)
		beside.ch.Close(errTestOver)
		key := keys.Wrapped{Usage: keys.Seal, Algorithm: keys.AES, Cryptogram: objectPrefix + "audit"}
		kcv, err := open(t, at.settings()).CheckValue(t.Context(), key)
		if c.stored && (err != nil || len(kcv) != checkDigits) {
			t.Errorf("%s: the key is not in the token: %v", name, err)
		} else if !c.stored {
			wantClass(t, name+": the key afterwards", err, command.NoLicence)
		}
	}
}

// awaitRetired waits until the session is closed. The caller keeps the library loaded.
func (s *session) awaitRetired(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // the end of a session is nobody's signal
		if _, err := s.lib.ctx.GetSessionInfo(s.handle); err != nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal("the session is not closed")
		}
	}
}

// TestSameLabelAtTheSameMoment: whoever is told that a key is stored has the only one of its label.
func TestSameLabelAtTheSameMoment(t *testing.T) {
	t.Parallel()
	at := newToken(t)
	sessions := []*talk{open(t, at.settings()), open(t, at.settings())}
	calls := at.count(t, "C_GenerateKey")
	mend := at.fault(t, "C_GenerateKey", "hang")
	errs := make([]error, len(sessions))
	var storing sync.WaitGroup
	for i, c := range sessions {
		storing.Go(func() { _, errs[i] = c.StoreKey(t.Context(), auditKey("audit")) })
	}
	for calls() < len(sessions) {
		time.Sleep(time.Millisecond) // there is no signal out of the library
	}
	mend()
	storing.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
			continue
		}
		wantClass(t, "the other one", err, command.CallerFault, "same moment")
	}
	s, _ := open(t, at.settings()).ch.(*session)
	if left, err := s.findObjects("audit", nil); err != nil || len(left) != done || done > 1 {
		t.Errorf("%d keys are stored, %d were said to be (%v)", len(left), done, err)
	}
}

// hangUp is a conversation whose caller's time ends with one operation.
type hangUp struct {
	*talk
	after  string
	cancel context.CancelFunc
}

func (h hangUp) Do(ctx context.Context, code string, sent int, work func(context.Context, driver.Channel) (int, string, error)) error {
	err := h.talk.Do(ctx, code, sent, work)
	if code == h.after {
		h.cancel()
	}
	return err
}

// TestLeftKeysAreClearedAway: a key that could not be destroyed in its conversation is destroyed in the next.
func TestLeftKeysAreClearedAway(t *testing.T) {
	t.Parallel()
	c := open(t, newToken(t).settings())
	s, _ := c.ch.(*session)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := c.d.MakeDataKey(ctx, hangUp{c, codeAttribute, cancel}, sealKey(t)); err != nil {
		t.Fatal(err)
	}
	if len(s.temporary) != 2 || !alive(c.ch) {
		t.Fatalf("%d keys are left, want 2", len(s.temporary))
	}
	left := s.temporary[0]
	if _, err := c.MAC(t.Context(), macOf(sealKey(t))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.value(left); len(s.temporary) != 0 || err == nil {
		t.Errorf("%d keys are left afterwards", len(s.temporary))
	}
}

// TestLateDataKeyIsWiped.
func TestLateDataKeyIsWiped(t *testing.T) {
	t.Parallel()
	late := []byte("a clear data key")
	new(session).throwAway(codeAttribute, 0, time.Now(), late)
	if strings.Trim(string(late), "\x00") != "" {
		t.Error("a late key was not wiped")
	}
}

// TestGuarded: a key that could leave the token is seen.
func TestGuarded(t *testing.T) {
	t.Parallel()
	c := open(t, newToken(t).settings())
	s, _ := c.ch.(*session)
	open, err := s.generate()
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := s.guarded(open); ok || err != nil {
		t.Errorf("an extractable key is guarded: %v, %v", ok, err)
	}
	if ok, err := s.guarded(s.lmk); !ok || err != nil {
		t.Errorf("the LMK key is guarded: %v, %v", ok, err)
	}
}
