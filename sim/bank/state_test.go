package bank

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func withState(path string) func(*Config) {
	return func(c *Config) { c.StateFile = path }
}

func TestStateSurvivesRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bank.json")
	b := newBank(t, withState(path))
	c := signedOn(t, b)
	bought := c.exchange("0200", purchase(1))
	bought.want(t, "0210", "00")
	c.exchange("0200", purchase(2)).want(t, "0210", "00")
	c.exchange("0400", reversal(purchase(2))).want(t, "0410", "00")
	c.exchange("0400", reversal(purchase(3))).want(t, "0410", "25")
	inquiry := purchase(4).with(3, "310000", 4, nil)
	c.exchange("0200", inquiry).want(t, "0210", "00")
	c.exchange("0200", purchase(5).with(2, "6222020000000000042")).want(t, "0210", "14")
	for i := range maxWrongPINs {
		c.exchange("0200", purchase(10+i).with(2, card2).withPIN(t, "000000")).want(t, "0210", "55")
	}
	stop(t, b)
	before := b.Book()

	again := newBank(t, withState(path))
	if got, want := asJSON(t, again.Book()), asJSON(t, before); got != want {
		t.Errorf("book after restart %s\nbefore %s", got, want)
	}
	c = signedOn(t, again)
	repeat := c.exchange("0200", purchase(1))
	if repeat.want(t, "0210", "00"); repeat.fields[38] != bought.fields[38] {
		t.Errorf("authorisation %s, first %s", repeat.fields[38], bought.fields[38])
	}
	if r := c.exchange("0200", inquiry); r.fields[54] != "0002156C000099999900" {
		t.Errorf("stored inquiry says %s", r.fields[54])
	}
	c.exchange("0400", reversal(purchase(2))).want(t, "0410", "00")
	c.exchange("0200", purchase(3)).want(t, "0210", "94")
	c.exchange("0200", purchase(30).with(2, card2).withPIN(t, "654321")).want(t, "0210", "75")
	c.exchange("0400", reversal(purchase(1))).want(t, "0410", "00")
	if left := balanceOf(t, again, card1); left != opening {
		t.Errorf("balance %d", left)
	}
	checkBooks(t, again)
}

func TestStateFileHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bank.json")
	b := newBank(t, withState(path))
	p := purchase(1).withPIN(t, "123456")
	signedOn(t, b).exchange("0200", p).want(t, "0210", "00")
	stop(t, b)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{card1, card2, card3, p[52], testZPK, testZAK} {
		if bytes.Contains(bytes.ToUpper(data), []byte(secret)) {
			t.Errorf("a secret of %d characters is in the state file", len(secret))
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// TestStateIsSavedWhileRunning waits for the save that follows a change, as a kill would find it.
func TestStateIsSavedWhileRunning(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bank.json")
	b := newBank(t, withState(path))
	signedOn(t, b).exchange("0200", purchase(1)).want(t, "0210", "00")
	for end := time.Now().Add(patient); ; {
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), `"state":"booked"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no save")
		}
		time.Sleep(20 * time.Millisecond) // The save gives no signal; a file is what is looked for.
	}
	killed := newBank(t, withState(path)) // The first one still runs; only its file counts.
	if n := killed.Book().Totals.Booked; n != 1 {
		t.Errorf("%d booked after a kill", n)
	}
}

func TestStateOfChangedAccounts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bank.json")
	b := newBank(t, withState(path))
	signedOn(t, b).exchange("0200", purchase(1)).want(t, "0210", "00")
	stop(t, b)

	// The account is not configured any more: its purchase can still be reversed, and the money waits for it.
	b = newBank(t, withState(path), func(c *Config) { c.Accounts = []Account{{PAN: card2, Balance: 500}} })
	signedOn(t, b).exchange("0400", reversal(purchase(1))).want(t, "0410", "00")
	stop(t, b)

	b = newBank(t, withState(path), func(c *Config) { c.Accounts = []Account{{PAN: card1, Balance: 700}} })
	if left := balanceOf(t, b, card1); left != 700 {
		t.Errorf("balance %d", left)
	}
}

func TestDamagedState(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bank.json")
	b := newBank(t, withState(path))
	signedOn(t, b).exchange("0200", purchase(1)).want(t, "0210", "00")
	stop(t, b)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(string) string{
		"empty":         func(string) string { return "" },
		"cut":           func(s string) string { return s[:len(s)/2] },
		"other version": func(s string) string { return strings.Replace(s, `"version":2`, `"version":3`, 1) },
		"unknown name":  func(s string) string { return strings.Replace(s, `"version"`, `"x":1,"version"`, 1) },
		"no account":    func(s string) string { return strings.Replace(s, `"account":0`, `"account":-1`, 1) },
		"wrong account": func(s string) string { return strings.Replace(s, `"account":0`, `"account":9`, 1) },
		"unknown state": func(s string) string { return strings.Replace(s, `"state":"booked"`, `"state":"x"`, 1) },
		"short key":     func(s string) string { return strings.Replace(s, `"key":"0`, `"key":"`, 1) },
		"balance":       func(s string) string { return strings.Replace(s, `"balance":`, `"balance":99999`, 1) },
		"unknown kind":  func(s string) string { return strings.Replace(s, `"kind":"purchase"`, `"kind":"x"`, 1) },
		"wrong original": func(s string) string {
			return strings.Replace(s, `"kind":"purchase"`, `"original":1,"kind":"purchase"`, 1)
		},
		"authorisations": func(s string) string { return strings.Replace(s, `"auth_seq":`, `"auth_seq":-`, 1) },
	} {
		bad := change(string(good))
		if bad == string(good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := Config{Addr: "127.0.0.1:0", ZPK: unhex(t, testZPK), ZAK: unhex(t, testZAK), StateFile: path}
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Addr: "127.0.0.1:0", ZPK: unhex(t, testZPK), ZAK: unhex(t, testZPK), StateFile: path}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "another zone MAC key") {
		t.Errorf("other key: error %v", err)
	}
}

func TestStateCannotBeSaved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "gone")
	b, err := New(Config{Addr: "127.0.0.1:0", ZPK: unhex(t, testZPK), ZAK: unhex(t, testZAK), StateFile: filepath.Join(dir, "bank.json")})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextFor()
	defer cancel()
	if err := b.Stop(ctx); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
}

func asJSON(tb testing.TB, v any) string {
	tb.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}
