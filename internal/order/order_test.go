package order

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

var (
	signing  = ed25519.NewKeyFromSeed([]byte("a seed for tests, 32 bytes long!"))
	public   = signing.Public().(ed25519.PublicKey)
	deadline = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
)

func valid() Order {
	return Order{
		ID: "0e7f6f5a-7f43-4d55-9d3c-0a3a1f6f8b11", PSAMFrom: "60000000000000000001", Count: 20,
		Algorithms: []keys.Algorithm{keys.TDES, keys.SM4}, ExpiresAt: deadline, Approvers: []string{"alice", "bob"}, Author: "alice",
	}
}

func sign(t testing.TB, o Order) Signed {
	t.Helper()
	s, err := o.Sign(signing)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	s := sign(t, valid())
	got, err := Verify(public, s, deadline.Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	want := valid()
	if got.ID != want.ID || got.PSAMFrom != want.PSAMFrom || got.Count != 20 || len(got.Algorithms) != 2 || !got.ExpiresAt.Equal(deadline) ||
		len(got.Approvers) != 2 || got.Author != "alice" {
		t.Errorf("got %+v", got)
	}
	if again := sign(t, valid()); string(again.Document) != string(s.Document) {
		t.Error("the same order gives other bytes")
	}
}

// Every bit of document and signature matters.
func TestTampering(t *testing.T) {
	t.Parallel()
	s := sign(t, valid())
	now := deadline.Add(-time.Hour)
	for _, part := range []struct {
		name  string
		bytes []byte
	}{{"document", s.Document}, {"signature", s.Signature}} {
		for i := range part.bytes {
			for bit := range 8 {
				part.bytes[i] ^= 1 << bit
				if _, err := Verify(public, s, now); err == nil {
					t.Errorf("%s byte %d bit %d: tampered order accepted", part.name, i, bit)
				}
				part.bytes[i] ^= 1 << bit
			}
		}
		for _, n := range []int{0, 1, len(part.bytes) - 1} {
			cut := s
			if part.name == "document" {
				cut.Document = part.bytes[:n]
			} else {
				cut.Signature = part.bytes[:n]
			}
			if _, err := Verify(public, cut, now); err == nil {
				t.Errorf("%s cut to %d bytes accepted", part.name, n)
			}
		}
	}
	if _, err := Verify(public, s, now); err != nil {
		t.Fatalf("untouched order: %v", err)
	}
	if _, err := Verify(ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey), s, now); err == nil {
		t.Error("accepted under another key")
	}
	if _, err := Verify(nil, s, now); err == nil {
		t.Error("accepted without a key")
	}
}

// A good signature alone is not enough: other documents of the same signer are no orders.
func TestSignedButNoOrder(t *testing.T) {
	t.Parallel()
	good := string(sign(t, valid()).Document)
	for name, text := range map[string]string{
		"empty": "", "other type": strings.Replace(good, documentType, "keyward-issue-order/2", 1), "trailing": good + "{}",
		"unknown member": strings.Replace(good, `"count"`, `"counts"`, 1), "no approvers": strings.Replace(good, `["alice","bob"]`, `[]`, 1),
		"one person twice": strings.Replace(good, `["alice","bob"]`, `["bob","bob"]`, 1), "too long": good + strings.Repeat(" ", maxDocument),
	} {
		s := Signed{Document: []byte(text), Signature: ed25519.Sign(signing, []byte(text))}
		if _, err := Verify(public, s, deadline.Add(-time.Hour)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	s := sign(t, valid())
	for _, c := range []struct {
		after time.Duration
		ended bool
	}{{-time.Nanosecond, false}, {0, true}, {time.Nanosecond, true}, {time.Hour, true}} {
		if _, err := Verify(public, s, deadline.Add(c.after)); errors.Is(err, ErrExpired) != c.ended {
			t.Errorf("%s after the end: %v", c.after, err)
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from  string
		count int
		psam  string
		want  bool
	}{
		{"60000000000000000001", 20, "60000000000000000000", false}, {"60000000000000000001", 20, "60000000000000000001", true},
		{"60000000000000000001", 20, "60000000000000000020", true}, {"60000000000000000001", 20, "60000000000000000021", false},
		{"60000000000000000099", 2, "60000000000000000100", true}, {"60000000000000000099", 1, "60000000000000000100", false},
		{"09999999999999999999", 2, "10000000000000000000", true}, {"99999999999999999999", 1, "99999999999999999999", true},
		{"99999999999999999999", 2, "99999999999999999999", false}, {"60000000000000000001", 20, "6000000000000000001", false},
		{"60000000000000000001", 20, "600000000000000000010", false}, {"60000000000000000001", 20, "6000000000000000001x", false},
		{"60000000000000000001", 20, "", false}, {"60000000000000000001", 0, "60000000000000000001", false},
		{"60000000000000000001", -1, "60000000000000000001", false},
	} {
		if got := (Order{PSAMFrom: c.from, Count: c.count}).Covers(c.psam); got != c.want {
			t.Errorf("from %s count %d covers %s: %v", c.from, c.count, c.psam, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Order){
		"id": func(o *Order) { o.ID = "1" }, "id upper case": func(o *Order) { o.ID = strings.ToUpper(o.ID) },
		"from": func(o *Order) { o.PSAMFrom = "6" }, "count 0": func(o *Order) { o.Count = 0 }, "count too high": func(o *Order) { o.Count = MaxCount + 1 },
		"over the end": func(o *Order) { o.PSAMFrom = strings.Repeat("9", 20) }, "no algorithm": func(o *Order) { o.Algorithms = nil },
		"aes": func(o *Order) { o.Algorithms = []keys.Algorithm{keys.AES} }, "twice": func(o *Order) { o.Algorithms = []keys.Algorithm{keys.SM4, keys.SM4} },
		"no end": func(o *Order) { o.ExpiresAt = time.Time{} }, "one approver": func(o *Order) { o.Approvers = o.Approvers[:1] },
		"same approver": func(o *Order) { o.Approvers = []string{"bob", "bob"} }, "no author": func(o *Order) { o.Author = "" },
		"long name": func(o *Order) { o.Author = strings.Repeat("x", maxName+1) },
	} {
		o := valid()
		change(&o)
		if _, err := o.Sign(signing); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := valid().Sign(nil); err == nil {
		t.Error("signed without a key")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	der, err := x509.MarshalPKCS8PrivateKey(signing)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePrivateKey(secret.New(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if err != nil || !key.Equal(signing) {
		t.Errorf("private key: %v", err)
	}
	if der, err = x509.MarshalPKIXPublicKey(public); err != nil {
		t.Fatal(err)
	}
	pub, err := ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil || !pub.Equal(public) {
		t.Errorf("public key: %v", err)
	}
	for _, bad := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if _, err := ParsePrivateKey(secret.NewString(bad)); err == nil {
			t.Errorf("private key %q accepted", bad)
		}
		if _, err := ParsePublicKey([]byte(bad)); err == nil {
			t.Errorf("public key %q accepted", bad)
		}
	}
}

func FuzzVerify(f *testing.F) {
	s := sign(f, valid())
	f.Add(s.Document, "60000000000000000001")
	f.Add([]byte(`{"type":"keyward-issue-order/1","count":1e9}`), "")
	f.Fuzz(func(t *testing.T, text []byte, psam string) {
		o, err := Verify(public, Signed{Document: text, Signature: ed25519.Sign(signing, text)}, deadline.Add(-time.Hour))
		if err != nil {
			return
		}
		if err := o.Validate(); err != nil {
			t.Errorf("verified, but %v", err)
		}
		o.Covers(psam)
	})
}
