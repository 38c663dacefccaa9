//go:build cgo

package pkcs11

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/hsmtest"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// exchange is one entry of a test's journal.
type exchange struct {
	code, result   string
	sent, received int
}

// talk is a conversation on one session, and a client for the conformance suite: the driver without a cluster.
type talk struct {
	d  *Driver
	ch driver.Channel

	mu      sync.Mutex
	journal []exchange
}

// Exchange implements driver.Conversation.
func (c *talk) Exchange(ctx context.Context, request []byte) ([]byte, error) {
	return c.ch.Exchange(ctx, request)
}

// Do implements driver.Conversation.
func (c *talk) Do(ctx context.Context, code string, sent int, work func(context.Context, driver.Channel) (int, string, error)) error {
	received, result, err := work(ctx, c.ch)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.journal = append(c.journal, exchange{code, result, sent, received})
	return err
}

// taken gives the journal and begins a new one.
func (c *talk) taken() []exchange {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.journal
	c.journal = nil
	return j
}

// codes are the operations of the journal in one line.
func codes(journal []exchange) string {
	var list []string
	for _, e := range journal {
		list = append(list, strings.TrimPrefix(e.code, "C_"))
	}
	return strings.Join(list, " ")
}

func (c *talk) MAC(ctx context.Context, in command.MACInput) ([]byte, error) {
	return c.d.MAC(ctx, c, in)
}
func (c *talk) VerifyMAC(ctx context.Context, in command.MACInput, expect []byte) (bool, error) {
	return c.d.VerifyMAC(ctx, c, in, expect)
}
func (c *talk) StoreKey(ctx context.Context, req command.NewKey) (keys.Wrapped, error) {
	return c.d.StoreKey(ctx, c, req)
}
func (c *talk) MakeDataKey(ctx context.Context, kek keys.Wrapped) (command.DataKey, error) {
	return c.d.MakeDataKey(ctx, c, kek)
}
func (c *talk) OpenDataKey(ctx context.Context, kek keys.Wrapped, wrapped []byte) (secret.Key, error) {
	return c.d.OpenDataKey(ctx, c, kek, wrapped)
}
func (c *talk) CheckValue(ctx context.Context, key keys.Wrapped) (keys.KCV, error) {
	return c.d.CheckValue(ctx, c, key)
}
func (c *talk) Random(ctx context.Context, n int) ([]byte, error) { return c.d.Random(ctx, c, n) }
func (c *talk) Diagnose(ctx context.Context) (command.Diagnosis, error) {
	return c.d.Diagnose(ctx, c)
}

func makeDriver(tb testing.TB, from map[string]string) *Driver {
	tb.Helper()
	made, err := New(from)
	if err != nil {
		tb.Fatal(err)
	}
	d, ok := made.(*Driver)
	if !ok {
		tb.Fatalf("New made a %T", made)
	}
	return d
}

var errTestOver = errors.New("the test is over")

// open opens a session that ends with the test.
func open(tb testing.TB, from map[string]string) *talk {
	tb.Helper()
	d := makeDriver(tb, from)
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	ch, err := d.Open(ctx, driver.Target{Name: "hsm1", Addr: lab.module})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ch.Close(errTestOver) })
	return &talk{d: d, ch: ch}
}

// openFails wants Open to fail with all the texts.
func openFails(tb testing.TB, from map[string]string, texts ...string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	ch, err := makeDriver(tb, from).Open(ctx, driver.Target{Name: "hsm1", Addr: lab.module})
	if err == nil {
		ch.Close(errTestOver)
		tb.Errorf("it opened, want an error about %q", texts)
		return
	}
	for _, text := range append(texts, "hsm1") {
		if !strings.Contains(err.Error(), text) {
			tb.Errorf("the error %q does not say %q", err, text)
		}
	}
}

// wrapUnder is the key ceremony: a clear AES key under an LMK, without any token.
func wrapUnder(tb testing.TB, lmk []byte, clear []byte) keys.Wrapped {
	tb.Helper()
	return keys.Wrapped{
		Usage: keys.Seal, Algorithm: keys.AES, KCV: kcvOf(tb, clear),
		Cryptogram: wrappedPrefix + strings.ToUpper(hex.EncodeToString(hsmtest.AESKeyWrap(tb, lmk, clear))),
	}
}

func sealKey(tb testing.TB) keys.Wrapped {
	tb.Helper()
	return wrapUnder(tb, testLMK, []byte("a public test key for seal MACs."))
}

func macOf(key keys.Wrapped) command.MACInput {
	return command.MACInput{Key: key, Algorithm: command.MACCMAC, Data: []byte("sixteen bytes...and more")}
}

func wantClass(tb testing.TB, what string, err error, class command.Class, texts ...string) {
	tb.Helper()
	var e *command.Error
	if !errors.As(err, &e) || e.Class != class {
		tb.Errorf("%s: got %v, want an error of class %s", what, err, class)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			tb.Errorf("%s: the error %q does not say %q", what, err, text)
		}
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	hsmtest.RunStorage(t, func(t *testing.T) hsmtest.StorageFixture {
		return hsmtest.StorageFixture{
			Client: open(t, newToken(t).settings()),
			Wrap:   func(t testing.TB, clear secret.Key) keys.Wrapped { return wrapUnder(t, testLMK, clear.Reveal()) },
		}
	})
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	const base = command.CanMAC | command.CanCheck | command.CanRandom | command.CanDataKey
	for sessions, want := range map[string]command.Capability{"": base | command.CanStoreKey, "rw": base | command.CanStoreKey, "ro": base} {
		d := makeDriver(t, token{"a"}.settings(settingSessions, sessions))
		if d.Name() != "pkcs11" || d.Capabilities() != want {
			t.Errorf("sessions %q: %s can %s, want %s", sessions, d.Name(), d.Capabilities(), want)
		}
		const payment = command.CanMakeWorkKey | command.CanTranslatePIN | command.CanDecryptTrack | command.CanDiversify | command.CanExportForCard
		if d.Capabilities()&payment != 0 {
			t.Error("it claims a payment capability")
		}
	}
}

// TestOperationsAreJournalled: every operation stands in the journal with lengths, and what was unwrapped is destroyed.
func TestOperationsAreJournalled(t *testing.T) {
	t.Parallel()
	c := open(t, newToken(t).settings())
	ctx, key := t.Context(), sealKey(t)
	steps := []struct {
		what, want string
		do         func() error
	}{
		{"MAC", "UnwrapKey Sign DestroyObject", func() error { _, err := c.MAC(ctx, macOf(key)); return err }},
		{"whole MAC verified", "UnwrapKey Verify DestroyObject", func() error { _, err := c.VerifyMAC(ctx, macOf(key), make([]byte, 16)); return err }},
		{"short MAC verified", "UnwrapKey Sign DestroyObject", func() error { _, err := c.VerifyMAC(ctx, macOf(key), make([]byte, 8)); return err }},
		{"check value", "UnwrapKey Sign DestroyObject", func() error { _, err := c.CheckValue(ctx, key); return err }},
		{"random", "GenerateRandom", func() error { _, err := c.Random(ctx, 8); return err }},
		{"diagnosis", "GetTokenInfo FindObjects Sign", func() error { _, err := c.Diagnose(ctx); return err }},
		{"store", "FindObjects GenerateKey GetAttributeValue FindObjects Sign", func() error {
			_, err := c.StoreKey(ctx, command.NewKey{Label: "journal", Usage: keys.Seal, Algorithm: keys.AES})
			return err
		}},
		{"data key", "UnwrapKey GenerateKey WrapKey GetAttributeValue DestroyObject DestroyObject", func() error {
			made, err := c.MakeDataKey(ctx, key)
			if made.Clear.Len() != 32 {
				t.Errorf("the data key has %d bytes", made.Clear.Len())
			}
			return err
		}},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Errorf("%s: %v", s.what, err)
		}
		journal := c.taken()
		if got := codes(journal); got != s.want {
			t.Errorf("%s: journalled %q, want %q", s.what, got, s.want)
		}
		for _, e := range journal {
			if e.result != "CKR_OK" || e.code == codeSign && e.sent == 0 || e.code == codeWrap && e.received != 40 {
				t.Errorf("%s: journalled %+v", s.what, e)
			}
		}
	}
	s, _ := c.ch.(*session)
	if len(s.temporary) != 0 {
		t.Errorf("%d keys are left in the session", len(s.temporary))
	}
}

func TestDiagnose(t *testing.T) {
	t.Parallel()
	c := open(t, newToken(t).settings())
	got, err := c.Diagnose(t.Context())
	if err != nil || got.LMKCheck != kcvOf(t, testLMK) || got.Firmware != "2.6" || len(got.Serial) != 16 {
		t.Errorf("got %+v, %v; want the check value %s", got, err, kcvOf(t, testLMK))
	}
	for _, name := range []string{"", "C_Sign", "C_GetTokenInfo", "C_GenerateRandom"} {
		if err := errors.Join(c.d.CheckProbe(name), c.d.Probe(t.Context(), c, name)); err != nil {
			t.Errorf("probe %q: %v", name, err)
		}
	}
	if err := c.d.CheckProbe("C_Logout"); err == nil || !strings.Contains(err.Error(), "C_GetTokenInfo") {
		t.Errorf("probe C_Logout: %v", err)
	}
	wantClass(t, "probe C_Logout", c.d.Probe(t.Context(), c, "C_Logout"), command.CallerFault)
	if _, err := c.Exchange(t.Context(), []byte("NC")); err == nil {
		t.Error("a host command was taken")
	}
}

// TestStoredKeys: labels are unique in the token; names with and without id.
func TestStoredKeys(t *testing.T) {
	t.Parallel()
	ctx, at := t.Context(), newToken(t)
	c := open(t, at.settings())
	req := command.NewKey{Label: "audit-1", Usage: keys.Seal, Algorithm: keys.AES}
	key, err := c.StoreKey(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.StoreKey(ctx, req)
	wantClass(t, "the label a second time", err, command.CallerFault, "choose another label")
	_, err = c.StoreKey(ctx, command.NewKey{Label: "LMK", Usage: keys.Seal, Algorithm: keys.AES})
	wantClass(t, "the label of the LMK", err, command.CallerFault)
	want, err := c.MAC(ctx, macOf(key))
	if err != nil {
		t.Fatal(err)
	}

	byLabel := key
	byLabel.Cryptogram = objectPrefix + req.Label
	if got, err := c.MAC(ctx, macOf(byLabel)); err != nil || hex.EncodeToString(got) != hex.EncodeToString(want) {
		t.Errorf("by its label: another MAC (%v)", err)
	}
	if _, err := c.MakeDataKey(ctx, byLabel); err != nil {
		t.Errorf("by its label: %v", err)
	}
	other := byLabel
	other.KCV = kcvOf(t, testLMK)
	_, err = c.MAC(ctx, macOf(other))
	wantClass(t, "a key of that label with another check value", err, command.NoLicence, string(key.KCV))
	byLabel.KCV = ""
	_, err = c.MAC(ctx, macOf(byLabel))
	wantClass(t, "by its label without a check value", err, command.CallerFault)
	if got, err := c.CheckValue(ctx, byLabel); err != nil || got != key.KCV {
		t.Errorf("the check value by label is %s (%v), want %s", got, err, key.KCV)
	}

	// Another session sees it, after the first one has gone too.
	again := open(t, at.settings(settingSessions, "ro"))
	c.ch.Close(errTestOver)
	if got, err := again.MAC(ctx, macOf(key)); err != nil || hex.EncodeToString(got) != hex.EncodeToString(want) {
		t.Errorf("in another session: another MAC (%v)", err)
	}
	_, err = again.StoreKey(ctx, command.NewKey{Label: "audit-2", Usage: keys.Seal, Algorithm: keys.AES})
	wantClass(t, "store in a read-only session", err, command.NoLicence, "sessions")
}

// TestManySessions: sessions of one token work at the same time.
func TestManySessions(t *testing.T) {
	t.Parallel()
	at, key := newToken(t), sealKey(t)
	first := open(t, at.settings())
	want, err := first.MAC(t.Context(), macOf(key))
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	for range 6 {
		c := open(t, at.settings())
		working.Go(func() {
			for range 50 {
				if got, err := c.MAC(t.Context(), macOf(key)); err != nil || hex.EncodeToString(got) != hex.EncodeToString(want) {
					t.Errorf("wrong MAC (%v)", err)
					return
				}
			}
		})
	}
	working.Wait()
}
