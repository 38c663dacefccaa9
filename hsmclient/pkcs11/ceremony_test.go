//go:build cgo

package pkcs11

import (
	"bytes"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/command"
)

// TestMakeLMK: a token without an LMK key gets one, and is a member then.
func TestMakeLMK(t *testing.T) {
	t.Parallel()
	at := spoiledToken(t)
	const label = "LMK of 2026"
	from := at.settings(settingLMKLabel, label)
	openFails(t, from, "no secret key")
	check, err := MakeLMK(t.Context(), lab.module, from)
	if err != nil {
		t.Fatal(err)
	}
	got, err := open(t, from).Diagnose(t.Context())
	if err != nil || got.LMKCheck != check || len(check) != checkDigits {
		t.Errorf("the member has the LMK check value %s (%v), made was %s", got.LMKCheck, err, check)
	}
	_, err = MakeLMK(t.Context(), lab.module, from)
	wantClass(t, "a second one", err, command.CallerFault, "already")
}

// TestRestrictLMK: a key that a tool has loaded with too many powers becomes an LMK key, and one that could leave the token does not.
func TestRestrictLMK(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		loaded []*p11.Attribute
		want   string
	}{
		{"as tools load it", lmkObject(testLMK, attribute(p11.CKA_ENCRYPT, true), attribute(p11.CKA_DECRYPT, true), attribute(p11.CKA_SIGN, false)), ""},
		{"extractable", lmkObject(testLMK, attribute(p11.CKA_EXTRACTABLE, true)), "CKA_EXTRACTABLE must be false"},
		{"of 16 bytes", lmkObject(testLMK[:16]), "no AES-256 key"},
	} {
		at := spoiledToken(t)
		s, _ := open(t, at.settings()).ch.(*session)
		if err := s.lib.ctx.DestroyObject(s.handle, s.lmk); err != nil {
			t.Fatal(err)
		}
		if _, err := s.lib.ctx.CreateObject(s.handle, c.loaded); err != nil {
			t.Fatal(err)
		}
		openFails(t, at.settings())
		check, err := RestrictLMK(t.Context(), lab.module, at.settings())
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || check != kcvOf(t, testLMK) {
			t.Errorf("%s: check value %s, %v", c.name, check, err)
		}
		if _, err := open(t, at.settings()).Diagnose(t.Context()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestMakeSealKey: a key made in one token works in another of the same LMK, and nothing stays behind.
func TestMakeSealKey(t *testing.T) {
	t.Parallel()
	one, two := newToken(t), newToken(t)
	key, err := MakeSealKey(t.Context(), lab.module, one.settings())
	if err != nil {
		t.Fatal(err)
	}
	here, there := open(t, one.settings()), open(t, two.settings())
	for _, c := range []*talk{here, there} {
		if got, err := c.CheckValue(t.Context(), key); err != nil || got != key.KCV {
			t.Errorf("check value %s (%v), want %s", got, err, key.KCV)
		}
	}
	a, err := here.MAC(t.Context(), macOf(key))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := there.MAC(t.Context(), macOf(key)); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the other token computes another MAC (%v)", err)
	}
	again, err := MakeSealKey(t.Context(), lab.module, one.settings())
	if err != nil || again.Cryptogram == key.Cryptogram {
		t.Errorf("the same key again, or %v", err)
	}
	if _, err := MakeSealKey(t.Context(), lab.module, token{"no LMK"}.settings()); err == nil || !strings.Contains(err.Error(), "no secret key") {
		t.Errorf("without an LMK key: %v", err)
	}
}
