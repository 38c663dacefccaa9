//go:build cgo

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyward/keyward/keys"
)

// softHSM is where Debian's package softhsm2 puts its library.
const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// TestHSMToken prepares a token of SoftHSM2 from nothing. It sets the environment, so it is not parallel.
func TestHSMToken(t *testing.T) {
	if _, err := os.Stat(softHSM); errors.Is(err, os.ErrNotExist) {
		if os.Getenv("CI") == "true" {
			t.Fatal("SoftHSM2 is not installed: apt-get install softhsm2")
		}
		t.Skip("SKIP: SoftHSM2 is not installed: apt-get install softhsm2")
	}
	dir := t.TempDir()
	pin, conf, tokens := filepath.Join(dir, "pin"), filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "tokens")
	if err := errors.Join(os.Mkdir(tokens, 0o700), os.WriteFile(pin, []byte("1234\n"), 0o600),
		os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "keyward 1", "--pin", "1234", "--so-pin", "12345678").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	token := func(code int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		all := append([]string{"hsm", "token"}, args...)
		if got := run(all, &out, &errs); got != code {
			t.Fatalf("posp %s: exit code %d, want %d: %s", strings.Join(all, " "), got, code, errs.String())
		}
		return out.String() + errs.String()
	}
	where := []string{"--library", softHSM, "--token", "keyward 1", "--pin-file", pin, "--lmk-label", "LMK"}
	with := func(args ...string) []string { return append(args, where...) }

	if text := token(exitFailure, with("make-seal-key")...); !strings.Contains(text, "no secret key") {
		t.Errorf("without an LMK key: %s", text)
	}
	made := token(exitOK, with("make-lmk")...)
	if text := token(exitFailure, with("make-lmk")...); !strings.Contains(text, "already") {
		t.Errorf("a second LMK key: %s", text)
	}
	if again := token(exitOK, with("restrict-lmk")...); again != made || !strings.HasPrefix(made, "LMK check value: ") {
		t.Errorf("made %q, restricted %q", made, again)
	}
	var key struct {
		Usage      keys.Usage
		Algorithm  keys.Algorithm
		Cryptogram string
		KCV        keys.KCV
	}
	if err := json.Unmarshal([]byte(token(exitOK, with("make-seal-key", "--output", "json")...)), &key); err != nil {
		t.Fatal(err)
	}
	if key.Usage != keys.Seal || key.Algorithm != keys.AES || !strings.HasPrefix(key.Cryptogram, "pkcs11:wrapped=") || len(key.KCV) != 16 {
		t.Errorf("the sealing key is %+v", key)
	}
	if text := token(exitUsage, "make-lmk", "--token", "keyward 1"); !strings.Contains(text, "--library") {
		t.Errorf("without a library: %s", text)
	}
	if text := token(exitFailure, "make-lmk", "--library", softHSM, "--lmk-label", "LMK"); !strings.Contains(text, "name the token") {
		t.Errorf("without a token: %s", text)
	}
}
