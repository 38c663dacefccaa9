//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"go.uber.org/goleak"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/keys/secret"
)

const (
	// softHSM is where Debian's package softhsm2 puts its library.
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	testPIN = "1234"
	// patience bounds every wait of a test; only a broken driver needs it all.
	patience = 20 * time.Second
	// poolSize is more than all tests use at the same time.
	poolSize = 80
)

// Public test values.
var (
	testLMK  = []byte("public test LMK of the pkcs11 td")
	otherLMK = []byte("another LMK to test pkcs11 with.")
)

// lab is what all tests share.
var lab struct {
	skip   string // why there is none
	module string // the library with faults in front of SoftHSM2
	tokens string // directory of SoftHSM2's tokens
	faults string
	pin    string // file with the right PIN
	// pool holds the labels of tokens that no test uses. All tokens are made before the first test: SoftHSM2 2.6.1 aborts the process when
	// one thread makes a token while another lists them.
	pool chan string
}

func TestMain(m *testing.M) {
	code, err := func() (int, error) {
		dir, err := os.MkdirTemp("", "pkcs11-test-")
		if err != nil {
			return 1, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := setUp(dir); err != nil {
			return 1, err
		}
		code := m.Run()
		if err := goleak.Find(); code == 0 && err != nil {
			return 1, err
		}
		return code, nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pkcs11 tests:", err)
	}
	os.Exit(code)
}

func setUp(dir string) error {
	real, err := filepath.EvalSymlinks(softHSM)
	if errors.Is(err, os.ErrNotExist) {
		lab.skip = "SoftHSM2 is not installed: apt-get install softhsm2"
		return nil
	} else if err != nil {
		return err
	}
	lab.module, lab.tokens, lab.faults, lab.pin = filepath.Join(dir, "faulty.so"), filepath.Join(dir, "tokens"), filepath.Join(dir, "faults"), filepath.Join(dir, "pin")
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	if out, err := exec.Command(compiler, "-shared", "-fPIC", "-o", lab.module, "testdata/faulty.c", "-ldl").CombinedOutput(); err != nil {
		return fmt.Errorf("compile testdata/faulty.c: %w: %s", err, out)
	}
	for _, d := range []string{lab.tokens, filepath.Join(lab.faults, "all")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	text := "directories.tokendir = " + lab.tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o600), os.WriteFile(lab.pin, []byte(testPIN+"\n"), 0o600)); err != nil {
		return err
	}
	for name, value := range map[string]string{"SOFTHSM2_CONF": conf, "KEYWARD_TEST_MODULE": real, "KEYWARD_TEST_FAULTS": lab.faults} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return makeTokens()
}

// Tokens with something wrong, which no test changes.
var wrongTokens = map[string][][]*p11.Attribute{
	"no LMK":          nil,
	"two LMKs":        {lmkObject(testLMK), lmkObject(testLMK)},
	"short LMK":       {lmkObject(testLMK[:16])},
	"extractable LMK": {lmkObject(testLMK, attribute(p11.CKA_EXTRACTABLE, true))},
	"open LMK":        {lmkObject(testLMK, attribute(p11.CKA_DECRYPT, true), attribute(p11.CKA_SENSITIVE, false))},
	"no unwrap":       {lmkObject(testLMK, attribute(p11.CKA_UNWRAP, false))},
	"twin":            {lmkObject(testLMK)},
	"other LMK":       {lmkObject(otherLMK)},
}

func makeTokens() error {
	ctx := p11.New(lab.module)
	if ctx == nil {
		return errors.New("the library does not load")
	}
	defer ctx.Destroy()
	if err := ctx.Initialize(); err != nil {
		return err
	}
	defer func() { _ = ctx.Finalize() }()
	lab.pool = make(chan string, poolSize)
	for i := range poolSize {
		label := fmt.Sprintf("token %d", i)
		if err := makeToken(ctx, label, lmkObject(testLMK)); err != nil {
			return err
		}
		lab.pool <- label
	}
	for label, objects := range wrongTokens {
		if err := makeToken(ctx, label, objects...); err != nil {
			return err
		}
	}
	return makeToken(ctx, "twin", lmkObject(testLMK))
}

// lmkObject is an LMK key as it must be, but for the changes.
func lmkObject(value []byte, changes ...*p11.Attribute) []*p11.Attribute {
	object := []*p11.Attribute{
		attribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attribute(p11.CKA_KEY_TYPE, p11.CKK_AES), attribute(p11.CKA_TOKEN, true),
		attribute(p11.CKA_PRIVATE, true), attribute(p11.CKA_LABEL, "LMK"), attribute(p11.CKA_VALUE, value), attribute(p11.CKA_SENSITIVE, true),
		attribute(p11.CKA_EXTRACTABLE, false), attribute(p11.CKA_ENCRYPT, false), attribute(p11.CKA_DECRYPT, false),
		attribute(p11.CKA_WRAP, true), attribute(p11.CKA_UNWRAP, true), attribute(p11.CKA_SIGN, true),
	}
	for _, c := range changes {
		i := slices.IndexFunc(object, func(a *p11.Attribute) bool { return a.Type == c.Type })
		object[i] = c
	}
	return object
}

// makeToken makes a token with objects.
func makeToken(ctx *p11.Ctx, label string, objects ...[]*p11.Attribute) error {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return err
	}
	slot := slots[len(slots)-1] // SoftHSM2 keeps the free one last
	if err := ctx.InitToken(slot, "so-"+testPIN, label); err != nil {
		return err
	}
	h, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer func() { _ = ctx.CloseSession(h) }()
	err = errors.Join(ctx.Login(h, p11.CKU_SO, "so-"+testPIN), ctx.InitPIN(h, testPIN), ctx.Logout(h), ctx.Login(h, p11.CKU_USER, testPIN))
	for _, o := range objects {
		_, e := ctx.CreateObject(h, o)
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("token %s: %w", label, err)
	}
	return nil
}

// need skips the test where SoftHSM2 is missing, and fails it in CI, which installs it.
func need(tb testing.TB) {
	tb.Helper()
	switch {
	case lab.skip == "":
	case os.Getenv("CI") == "true":
		tb.Fatal(lab.skip)
	default:
		tb.Skip("SKIP: " + lab.skip)
	}
}

// token is one token, which only its test uses.
type token struct {
	label string
}

// newToken takes a token out of the pool; it comes back as it was.
func newToken(tb testing.TB) token {
	tb.Helper()
	need(tb)
	select {
	case label := <-lab.pool:
		k := token{label}
		tb.Cleanup(func() {
			k.tidy(tb)
			lab.pool <- label
		})
		return k
	default:
		tb.Fatal("the pool of tokens is empty: raise poolSize")
		return token{}
	}
}

// spoiledToken takes a token out of the pool for good.
func spoiledToken(tb testing.TB) token {
	tb.Helper()
	need(tb)
	select {
	case label := <-lab.pool:
		return token{label}
	default:
		tb.Skip("SKIP: the pool of tokens is empty after many runs")
		return token{}
	}
}

// tidy takes away what a test has stored.
func (k token) tidy(tb testing.TB) {
	tb.Helper()
	ch, err := makeDriver(tb, k.settings()).Open(context.Background(), driver.Target{Name: "tidy", Addr: lab.module})
	if err != nil {
		tb.Errorf("tidy up: %v", err)
		return
	}
	defer ch.Close(errTestOver)
	s, _ := ch.(*session)
	ctx := s.lib.ctx
	if err := ctx.FindObjectsInit(s.handle, []*p11.Attribute{attribute(p11.CKA_TOKEN, true)}); err != nil {
		tb.Error(err)
	}
	handles, _, err := ctx.FindObjects(s.handle, 100)
	err = errors.Join(err, ctx.FindObjectsFinal(s.handle), os.RemoveAll(k.faultDirectory(s.slot)))
	for _, h := range handles {
		if h != s.lmk {
			err = errors.Join(err, ctx.DestroyObject(s.handle, h))
		}
	}
	if err != nil {
		tb.Errorf("tidy up: %v", err)
	}
}

func (k token) faultDirectory(slot uint) string {
	return filepath.Join(lab.faults, strconv.FormatUint(uint64(slot), 10))
}

// settings are those of a member on the token, changed by pairs of name and value; an empty value takes the setting away.
func (k token) settings(pairs ...string) map[string]string {
	m := map[string]string{settingToken: k.label, settingPINFile: lab.pin, settingLMKLabel: "LMK"}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
		if pairs[i+1] == "" {
			delete(m, pairs[i])
		}
	}
	return m
}

// slot asks the library where the token is.
func (k token) slot(tb testing.TB) uint {
	tb.Helper()
	lib, err := acquire(tb.Context(), lab.module)
	if err != nil {
		tb.Fatal(err)
	}
	defer lib.release()
	slot, _, err := settings{token: k.label}.find(lib)
	if err != nil {
		tb.Fatal(err)
	}
	return slot
}

// fault sets what testdata/faulty.c does to a function, until mend or the end of the test.
func (k token) fault(tb testing.TB, function, what string) (mend func()) {
	tb.Helper()
	return setFault(tb, k.faultDirectory(k.slot(tb)), function, what)
}

func setFault(tb testing.TB, directory, function, what string) (mend func()) {
	tb.Helper()
	file := filepath.Join(directory, function)
	fresh := file + ".new" // written beside and moved, so that it is never seen half
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(fresh, []byte(what), 0o600), os.Rename(fresh, file)); err != nil {
		tb.Fatal(err)
	}
	mend = func() {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			tb.Error(err)
		}
	}
	tb.Cleanup(mend)
	return mend
}

// count begins to count the calls of a function.
func (k token) count(tb testing.TB, function string) func() int {
	tb.Helper()
	file := filepath.Join(k.faultDirectory(k.slot(tb)), function+".count")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
		tb.Fatal(err)
	}
	return func() int {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		return len(b)
	}
}

func kcvOf(tb testing.TB, clear []byte) keys.KCV {
	tb.Helper()
	v, err := kcv.Of(keys.AES, secret.New(clear))
	if err != nil {
		tb.Fatal(err)
	}
	return v[:checkDigits]
}
