package hsmtest

import (
	"bytes"
	"context"
	"crypto/aes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/cbcmac"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/keys/secret"
)

// StorageClient is what callers ask of devices that store keys, seal, and compute audit MACs, and do no payments.
type StorageClient interface {
	command.MACer
	command.KeyStorer
	command.DataKeyMaker
	command.Checker
	command.Randomizer
	command.Diagnoser
}

// StorageFixture is such a client over devices of one LMK domain.
type StorageFixture struct {
	Client StorageClient
	// Domain is the LMK domain that the client serves; empty for a bare driver, which knows no domains.
	Domain string
	// Wrap is the key ceremony of the devices: it puts a clear AES test key of usage Seal under their LMK.
	Wrap func(t testing.TB, clear secret.Key) keys.Wrapped
}

// RFC 3394 §4.6.
const (
	rfc3394KEK     = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	rfc3394Key     = "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F"
	rfc3394Wrapped = "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
)

// RunStorage is Run for such devices. newFixture is called once; it cleans up by t.Cleanup.
func RunStorage(t *testing.T, newFixture func(t *testing.T) StorageFixture) {
	t.Helper()
	f := newFixture(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, context.Context, StorageFixture)
	}{
		{"CMAC", sealMAC},
		{"CMAC/vectors", sealVectors},
		{"CMAC/refusals", refuseSealMAC},
		{"CheckValue", sealCheckValue},
		{"DataKey", dataKey},
		{"DataKey/RFC3394", dataKeyVector},
		{"DataKey/refusals", refuseDataKey},
		{"StoreKey", storeKey},
		{"StoreKey/refusals", refuseStoreKey},
		{"OtherDomain", otherStorageDomain},
		// What both kinds of devices do.
		{"Random", func(t *testing.T, ctx context.Context, f StorageFixture) { random(t, ctx, f.narrow()) }},
		{"Diagnose", func(t *testing.T, ctx context.Context, f StorageFixture) { diagnose(t, ctx, f.narrow()) }},
		{"EndedContext", func(t *testing.T, ctx context.Context, f StorageFixture) { endedContext(t, ctx, f.narrow()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
			defer cancel()
			c.run(t, ctx, f)
		})
	}
}

// narrow gives the fixture to cases that use no payment capability; one that did would find nobody there.
func (f StorageFixture) narrow() Fixture {
	type payments struct {
		command.WorkKeyMaker
		command.PINTranslator
		command.DataDecrypter
		command.Diversifier
		command.CardExporter
	}
	return Fixture{Domain: f.Domain, Client: struct {
		StorageClient
		payments
	}{StorageClient: f.Client}}
}

func (f StorageFixture) wrap(t testing.TB, clearHex string) keys.Wrapped {
	t.Helper()
	return f.Wrap(t, secret.New(unhex(t, clearHex)))
}

// newLabel is a label that no run of the suite has used, because stored keys stay.
func newLabel(what string) string { return fmt.Sprintf("%s-%x", what, time.Now().UnixNano()) }

func cmacOf(t testing.TB, clearHex string, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(unhex(t, clearHex))
	if err != nil {
		t.Fatal(err)
	}
	return cbcmac.NewCMAC(block, aes.BlockSize).MAC(data)
}

func seal(key keys.Wrapped, data []byte) command.MACInput {
	return command.MACInput{Key: key, Algorithm: command.MACCMAC, Data: data}
}

func sealMAC(t *testing.T, ctx context.Context, f StorageFixture) {
	for _, clear := range []string{masterKey, rfc3394Key, rfc3394KEK} {
		key := f.wrap(t, clear)
		for _, n := range []int{1, 15, 16, 17, 300, 2000} {
			data := bytes.Repeat([]byte{0x00, 0x19, 0xFF, 'a', '%', ';', 0x15}, n/7+1)[:n]
			want := cmacOf(t, clear, data)
			if got, err := f.Client.MAC(ctx, seal(key, data)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("over %d bytes: wrong MAC of %d bytes (%v)", n, len(got), err)
			}
			verify(t, ctx, f, key, data, want)
		}
	}
}

// verify asks for a whole MAC and for shortened ones, right and wrong.
func verify(t *testing.T, ctx context.Context, f StorageFixture, key keys.Wrapped, data, mac []byte) {
	t.Helper()
	for _, size := range []int{4, 8, 16} {
		if ok, err := f.Client.VerifyMAC(ctx, seal(key, data), mac[:size]); err != nil || !ok {
			t.Errorf("over %d bytes: %d right bytes give %v, %v", len(data), size, ok, err)
		}
		wrong := bytes.Clone(mac[:size])
		wrong[size-1] ^= 1
		if ok, err := f.Client.VerifyMAC(ctx, seal(key, data), wrong); err != nil || ok {
			t.Errorf("over %d bytes: %d wrong bytes give %v, %v", len(data), size, ok, err)
		}
	}
}

func sealVectors(t *testing.T, ctx context.Context, f StorageFixture) {
	seen := 0
	for _, v := range vectors.Load(t, "mac.json").Group(t, "aes_cmac") {
		data := vectors.Hex(t, v.In, "msg")
		if len(data) == 0 {
			continue // callers must give data
		}
		seen++
		got, err := f.Client.MAC(ctx, seal(f.wrap(t, vectors.Str(v.In, "key")), data))
		if err != nil || !strings.HasPrefix(fmt.Sprintf("%X", got), vectors.Str(v.Out, "mac")) {
			t.Errorf("%s: got %X (%v)", v.ID, got, err)
		}
	}
	if seen < 5 {
		t.Errorf("only %d vectors seen", seen)
	}
}

func refuseSealMAC(t *testing.T, ctx context.Context, f StorageFixture) {
	key := f.wrap(t, masterKey)
	with := func(change func(*command.MACInput)) command.MACInput {
		in := seal(key, []byte("x"))
		change(&in)
		return in
	}
	cut, other := key, key
	cut.Cryptogram = cut.Cryptogram[:len(cut.Cryptogram)-1]
	other.Cryptogram = flipLast(other.Cryptogram)
	for what, in := range map[string]command.MACInput{
		"nothing":                with(func(in *command.MACInput) { in.Data = nil }),
		"too much":               with(func(in *command.MACInput) { in.Data = make([]byte, 60000) }),
		"retail MAC":             with(func(in *command.MACInput) { in.Algorithm = command.MACAlg3 }),
		"CBC-MAC":                with(func(in *command.MACInput) { in.Algorithm = command.MACAlg1 }),
		"a MAC key of a payment": with(func(in *command.MACInput) { in.Key.Usage = keys.MACKey }),
		"a PIN key":              with(func(in *command.MACInput) { in.Key.Usage = keys.PINKey }),
		"a TDES key":             with(func(in *command.MACInput) { in.Key.Algorithm = keys.TDES }),
		"a cut cryptogram":       with(func(in *command.MACInput) { in.Key = cut }),
		"a changed cryptogram":   with(func(in *command.MACInput) { in.Key = other }),
		"a host key":             with(func(in *command.MACInput) { in.Key.Cryptogram = "U" + masterKey }),
		"no key":                 with(func(in *command.MACInput) { in.Key.Cryptogram = "" }),
	} {
		_, err := f.Client.MAC(ctx, in)
		wantClass(t, "MAC of "+what, err, command.CallerFault)
		_, err = f.Client.VerifyMAC(ctx, in, make([]byte, 16))
		wantClass(t, "verify with "+what, err, command.CallerFault)
	}
	for _, n := range []int{0, 3, 17} {
		_, err := f.Client.VerifyMAC(ctx, seal(key, []byte("x")), make([]byte, n))
		wantClass(t, fmt.Sprintf("verify a MAC of %d bytes", n), err, command.CallerFault)
	}
	// A refusal leaves the device in order.
	if _, err := f.Client.MAC(ctx, seal(key, []byte("x"))); err != nil {
		t.Errorf("after all refusals: %v", err)
	}
}

// flipLast changes the last hex digit, which every cryptogram of a wrapped key has at its end.
func flipLast(text string) string {
	last := byte('0')
	if strings.HasSuffix(text, "0") {
		last = '1'
	}
	return text[:len(text)-1] + string(last)
}

func sealCheckValue(t *testing.T, ctx context.Context, f StorageFixture) {
	for _, v := range vectors.Load(t, "kcv.json").Group(t, "aes_cmac_zero") {
		clear := vectors.Str(v.In, "key")
		want, err := kcv.Of(keys.AES, secret.New(unhex(t, clear)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Client.CheckValue(ctx, f.wrap(t, clear))
		if err != nil || len(got) != 16 || !got.Matches(want) || !strings.HasPrefix(string(got), vectors.Str(v.Out, "kcv")) {
			t.Errorf("%s: got %s (%v), want the beginning of %s", v.ID, got, err, want)
		}
	}
	_, err := f.Client.CheckValue(ctx, keys.Wrapped{})
	wantClass(t, "no key", err, command.CallerFault)
}

// dataKey: what was made opens again, and is AES-256 under the key-encrypting key by RFC 3394.
func dataKey(t *testing.T, ctx context.Context, f StorageFixture) {
	const kekClear = rfc3394KEK
	kek := f.wrap(t, kekClear)
	seen := map[string]bool{}
	for range 3 {
		made, err := f.Client.MakeDataKey(ctx, kek)
		if err != nil {
			t.Fatal(err)
		}
		if made.Clear.Len() != 32 || !bytes.Equal(made.Wrapped, AESKeyWrap(t, unhex(t, kekClear), made.Clear.Reveal())) {
			t.Errorf("a data key of %d bytes is not under its key-encrypting key", made.Clear.Len())
		}
		if seen[string(made.Wrapped)] {
			t.Error("the same data key twice")
		}
		seen[string(made.Wrapped)] = true
		if opened, err := f.Client.OpenDataKey(ctx, kek, made.Wrapped); err != nil || !opened.Equal(made.Clear) {
			t.Errorf("opens as another key of %d bytes (%v)", opened.Len(), err)
		}
	}
}

func dataKeyVector(t *testing.T, ctx context.Context, f StorageFixture) {
	got, err := f.Client.OpenDataKey(ctx, f.wrap(t, rfc3394KEK), unhex(t, rfc3394Wrapped))
	if err != nil || !bytes.Equal(got.Reveal(), unhex(t, rfc3394Key)) {
		t.Errorf("RFC 3394 §4.6: opens as another key of %d bytes (%v)", got.Len(), err)
	}
}

func refuseDataKey(t *testing.T, ctx context.Context, f StorageFixture) {
	kek, other := f.wrap(t, rfc3394KEK), f.wrap(t, rfc3394Key)
	good := unhex(t, rfc3394Wrapped)
	damaged := bytes.Clone(good)
	damaged[7] ^= 1
	payment := kek
	payment.Usage = keys.ZoneMaster
	for what, c := range map[string]struct {
		kek     keys.Wrapped
		wrapped []byte
	}{
		"nothing":                    {kek, nil},
		"a cut key":                  {kek, good[:32]},
		"a key of 16 bytes":          {kek, AESKeyWrap(t, unhex(t, rfc3394KEK), unhex(t, masterKey))},
		"a damaged key":              {kek, damaged},
		"another key-encrypting":     {other, good},
		"no key-encrypting key":      {keys.Wrapped{Usage: keys.Seal, Algorithm: keys.AES, Domain: f.Domain}, good},
		"under a zone master key":    {payment, good},
		"a damaged key-encrypting":   {keys.Wrapped{Usage: keys.Seal, Algorithm: keys.AES, Domain: f.Domain, Cryptogram: flipLast(kek.Cryptogram)}, good},
		"with a byte too many at it": {kek, append(bytes.Clone(good), 0)},
	} {
		got, err := f.Client.OpenDataKey(ctx, c.kek, c.wrapped)
		wantClass(t, "open "+what, err, command.CallerFault)
		if !got.IsZero() {
			t.Errorf("open %s: a key comes with the error", what)
		}
	}
	_, err := f.Client.MakeDataKey(ctx, payment)
	wantClass(t, "make under a zone master key", err, command.CallerFault)
	if _, err := f.Client.OpenDataKey(ctx, kek, good); err != nil {
		t.Errorf("after all refusals: %v", err)
	}
}

func newKey(label string) command.NewKey {
	return command.NewKey{Label: label, Usage: keys.Seal, Algorithm: keys.AES}
}

// storeKey: a stored key works like any other, and no two are the same.
func storeKey(t *testing.T, ctx context.Context, f StorageFixture) {
	data := []byte("audit entry 1")
	var macs [2][]byte
	for i := range macs {
		label := newLabel("audit")
		req := newKey(label)
		req.Domain = f.Domain
		key, err := f.Client.StoreKey(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		if key.Usage != keys.Seal || key.Algorithm != keys.AES || key.Domain != f.Domain || len(key.KCV) != 16 || !strings.Contains(key.Cryptogram, label) {
			t.Errorf("stored as %s", key)
		}
		if got, err := f.Client.CheckValue(ctx, key); err != nil || got != key.KCV {
			t.Errorf("check value %s, stored with %s (%v)", got, key.KCV, err)
		}
		if macs[i], err = f.Client.MAC(ctx, seal(key, data)); err != nil {
			t.Fatal(err)
		}
		verify(t, ctx, f, key, data, macs[i])
		made, err := f.Client.MakeDataKey(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := f.Client.OpenDataKey(ctx, key, made.Wrapped); err != nil || !opened.Equal(made.Clear) {
			t.Errorf("a data key under a stored key opens as another (%v)", err)
		}
	}
	if bytes.Equal(macs[0], macs[1]) {
		t.Error("two stored keys are the same")
	}
}

func refuseStoreKey(t *testing.T, ctx context.Context, f StorageFixture) {
	label := newLabel("once")
	key, err := f.Client.StoreKey(ctx, newKey(label))
	if err != nil {
		t.Fatal(err)
	}
	for what, req := range map[string]command.NewKey{
		"without a label":      newKey(""),
		"a long label":         newKey(strings.Repeat("x", 65)),
		"a label with a blank": newKey("two words"),
		"a label with a zero":  newKey("a\x00b"),
		"a PIN key":            {Label: newLabel("pin"), Usage: keys.PINKey, Algorithm: keys.AES},
		"a TDES key":           {Label: newLabel("tdes"), Usage: keys.Seal, Algorithm: keys.TDES},
		"an SM4 key":           {Label: newLabel("sm4"), Usage: keys.Seal, Algorithm: keys.SM4},
	} {
		_, err := f.Client.StoreKey(ctx, req)
		wantClass(t, "store "+what, err, command.CallerFault)
	}
	unknown := key
	unknown.Cryptogram = strings.Replace(key.Cryptogram, label, newLabel("nowhere"), 1)
	_, err = f.Client.MAC(ctx, seal(unknown, []byte("x")))
	wantClass(t, "a stored key that is not there", err, command.NoLicence) // another member may hold it
	if got, err := f.Client.CheckValue(ctx, key); err != nil || got != key.KCV {
		t.Errorf("after all refusals the key has check value %s (%v)", got, err)
	}
}

// otherStorageDomain: a key of another LMK is refused before it is sent.
func otherStorageDomain(t *testing.T, ctx context.Context, f StorageFixture) {
	if f.Domain == "" {
		t.Skip("a bare driver knows no domains")
	}
	key := f.wrap(t, masterKey)
	key.Domain = "some other domain"
	_, err := f.Client.MAC(ctx, seal(key, []byte("x")))
	wantClass(t, "MAC", err, command.CallerFault)
	_, err = f.Client.MakeDataKey(ctx, key)
	wantClass(t, "data key", err, command.CallerFault)
}
