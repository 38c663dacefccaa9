package keyservice_test

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/keyservice"
	"github.com/keyward/keyward/internal/keyservice/keyservicetest"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/keys/pboc"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/migrations"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/psam"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const card = keyservicetest.Card

type request map[string]any

type cardAnswer struct {
	PSAM string `json:"psam_no"`
	Keys []struct {
		Name, Usage, Algorithm, KCV, State string
		Version                            int
	} `json:"keys"`
}

func parse[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func want(t *testing.T, what string, status int, body string, wantStatus int, words ...string) {
	t.Helper()
	if status != wantStatus {
		t.Fatalf("%s: status %d, want %d: %s", what, status, wantStatus, body)
	}
	for _, w := range words {
		if !strings.Contains(body, w) {
			t.Errorf("%s: no %q in %s", what, w, body)
		}
	}
}

// derivedKCV computes what a root key gives for the card.
func derivedKCV(t *testing.T, algorithm keys.Algorithm, root string) string {
	t.Helper()
	raw, _ := hex.DecodeString(root)
	factor, err := pboc.FactorOf(card)
	if err != nil {
		t.Fatal(err)
	}
	child, err := pboc.Derive(algorithm, secret.New(raw), factor)
	if err != nil {
		t.Fatal(err)
	}
	check, err := kcv.Of(algorithm, child)
	if err != nil {
		t.Fatal(err)
	}
	return string(check[:16])
}

func TestDerive(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	_, signed := s.Order(t, 1, 20, time.Hour)
	body := request{"psam_no": card, "order": signed, "algorithms": []string{"tdes", "sm4"}}
	status, answer := s.Call(t, "POST", "/v1/cards", "k1", body)
	want(t, "derive", status, answer, 201)
	got := parse[cardAnswer](t, answer)
	expect := []string{
		"PSAM:" + card + " card-control tdes " + derivedKCV(t, keys.TDES, "01010101020202020404040410101010"),
		"PSAM:" + card + ":ACK card-control tdes " + derivedKCV(t, keys.TDES, "02020202040404040808080820202020"),
		"PSAM:" + card + " tmk tdes " + derivedKCV(t, keys.TDES, "0123456789ABCDEFFEDCBA9876543210"),
		"PSAM:" + card + " tmk sm4 " + derivedKCV(t, keys.SM4, "0123456789ABCDEFFEDCBA9876543210"),
	}
	if len(got.Keys) != len(expect) {
		t.Fatalf("keys %+v", got.Keys)
	}
	for i, k := range got.Keys {
		if line := k.Name + " " + k.Usage + " " + k.Algorithm + " " + k.KCV; line != expect[i] || k.State != "active" || k.Version != 1 {
			t.Errorf("key %d: %s %s v%d, want %s", i, line, k.State, k.Version, expect[i])
		}
	}
	for _, key := range []string{"k1", "k2"} {
		if status, again := s.Call(t, "POST", "/v1/cards", key, body); status != 201 || again != answer {
			t.Errorf("repetition with key %s: %d %s", key, status, again)
		}
	}
	status, read := s.Call(t, "GET", "/v1/cards/"+card, "", nil)
	want(t, "read", status, read, 200, derivedKCV(t, keys.SM4, "0123456789ABCDEFFEDCBA9876543210"))
	if strings.Contains(read, "cryptogram") || strings.Contains(read, "\"U") {
		t.Error("the answer shows a cryptogram")
	}
	status, read = s.Call(t, "GET", "/v1/cards/60000000000000000009", "", nil)
	want(t, "unknown card", status, read, 404)
	// posp finds the master key where it looks for it.
	var name, actor string
	err := s.DB.Pool(t, migrations.RolePOSP).QueryRow(t.Context(), `SELECT name FROM card_master_keys WHERE algorithm = 'tdes'`).Scan(&name)
	if err != nil || name != "PSAM:"+card {
		t.Errorf("posp reads %q: %v", name, err)
	}
	err = s.DB.Pool(t, migrations.RoleKeys).QueryRow(t.Context(), `SELECT actor FROM key_events WHERE event = 'derived' LIMIT 1`).Scan(&actor)
	if err != nil || actor != "posp" {
		t.Errorf("actor %q: %v", actor, err)
	}
}

// The scripts write a blank card from the maker's key to its own master key.
func TestScriptsPersonaliseACard(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	_, signed := s.Order(t, 1, 20, time.Hour)
	status, answer := s.Call(t, "POST", "/v1/cards/"+card+"/scripts", "", request{"order": signed, "step": "master", "challenge": "11223344"})
	want(t, "script before the keys", status, answer, 409, "derive the keys first")
	status, answer = s.Call(t, "POST", "/v1/cards", "k", request{"psam_no": card, "order": signed})
	want(t, "derive", status, answer, 201)
	transport, _ := hex.DecodeString(keyservicetest.TransportKey)
	chip, err := psam.NewBlank(card, transport)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ name, file string }{{"card-control", ""}, {"application-control", "00A4000002DF01"}, {"master", ""}} {
		if step.file != "" {
			transmit(t, chip, step.file)
		}
		challenge := transmit(t, chip, "0084000004")
		status, answer := s.Call(t, "POST", "/v1/cards/"+card+"/scripts", "", request{"order": signed, "step": step.name, "challenge": challenge})
		want(t, step.name, status, answer, 200)
		transmit(t, chip, parse[map[string]string](t, answer)["apdu"])
	}
	if got, expect := transmit(t, chip, "80F6100104"), derivedKCV(t, keys.TDES, "0123456789ABCDEFFEDCBA9876543210")[:8]; got != expect {
		t.Errorf("the card's master key has check value %s, want %s", got, expect)
	}
}

// transmit sends hex to a card, wants 9000, and returns the data as hex.
func transmit(t *testing.T, chip *psam.Card, apdu string) string {
	t.Helper()
	raw, err := hex.DecodeString(apdu)
	if err != nil {
		t.Fatal(err)
	}
	answer := strings.ToUpper(hex.EncodeToString(chip.Transmit(raw)))
	data, ok := strings.CutSuffix(answer, "9000")
	if !ok {
		t.Fatalf("card answered %s to %s", answer, apdu[:8])
	}
	return data
}

func TestOrdersAreEnforced(t *testing.T) {
	t.Parallel()
	var shift atomic.Int64
	s := keyservicetest.New(t, keyservicetest.Options{Now: func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }})
	_, signed := s.Order(t, 1, 1, time.Hour)
	tampered := order.Signed{Document: append([]byte(nil), signed.Document...), Signature: signed.Signature}
	tampered.Document[60] ^= 1
	for what, c := range map[string]struct {
		body   request
		status int
		word   string
	}{
		"no order":      {request{"psam_no": card}, 403, "not valid"},
		"tampered":      {request{"psam_no": card, "order": tampered}, 403, "not valid"},
		"outside range": {request{"psam_no": "60000000000000000002", "order": signed}, 403, "not valid"},
		"bad number":    {request{"psam_no": "1", "order": signed}, 400, "20 digits"},
		"bad algorithm": {request{"psam_no": card, "order": signed, "algorithms": []string{"rot13"}}, 400, ""},
		"aes":           {request{"psam_no": card, "order": signed, "algorithms": []string{"aes"}}, 403, "not valid"},
		"twice":         {request{"psam_no": card, "order": signed, "algorithms": []string{"sm4", "sm4"}}, 400, "twice"},
	} {
		status, answer := s.Call(t, "POST", "/v1/cards", strings.ReplaceAll(what, " ", "-"), c.body)
		want(t, what, status, answer, c.status, c.word)
		status, answer = s.Call(t, "POST", "/v1/cards/"+card+"/scripts", "", request{"order": c.body["order"], "step": "master", "challenge": "00000000"})
		if status == 200 {
			t.Errorf("%s: script %s", what, answer)
		}
	}
	status, answer := s.Call(t, "POST", "/v1/cards", "", request{"psam_no": card, "order": signed})
	want(t, "no idempotency key", status, answer, 400, "Idempotency-Key")
	for _, bad := range []request{{"order": signed, "step": "all", "challenge": "00000000"}, {"order": signed, "step": "master", "challenge": "00"}, {"order": signed, "step": "master", "challenge": "xx000000"}} {
		status, answer := s.Call(t, "POST", "/v1/cards/"+card+"/scripts", "", bad)
		want(t, "bad script request", status, answer, 400)
	}
	shift.Store(int64(2 * time.Hour))
	status, answer = s.Call(t, "POST", "/v1/cards", "expired", request{"psam_no": card, "order": signed})
	want(t, "expired", status, answer, 403, "expired", "approved")
	var n int
	if err := s.DB.Pool(t, migrations.RoleKeys).QueryRow(t.Context(), `SELECT count(*) FROM keys WHERE name LIKE 'PSAM:%'`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d keys were intended by refused requests: %v", n, err)
	}
}

func TestExportsUseTheOrderUp(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	_, signed := s.Order(t, 1, 1, time.Hour)
	status, answer := s.Call(t, "POST", "/v1/cards", "k", request{"psam_no": card, "order": signed})
	want(t, "derive", status, answer, 201)
	exported := 0
	for range 12 {
		status, answer = s.Call(t, "POST", "/v1/cards/"+card+"/scripts", "", request{"order": signed, "step": "master", "challenge": "11223344"})
		if status != 200 {
			break
		}
		exported++
	}
	want(t, "export once more", status, answer, 409, "used up")
	if exported != 10 {
		t.Errorf("exported %d times, want 10", exported)
	}
}

// flaky fails a chosen derivation as a process would that dies between intent and result.
type flaky struct {
	keyservice.HSM
	mu    sync.Mutex
	fail  int // which derivation, counted from 1
	count int
	cause error
}

func (f *flaky) Diversify(ctx context.Context, req command.Diversification) (keys.Wrapped, error) {
	f.mu.Lock()
	f.count++
	fail := f.count == f.fail
	f.mu.Unlock()
	if fail {
		return keys.Wrapped{}, f.cause
	}
	return f.HSM.Diversify(ctx, req)
}

// Whatever derivation was interrupted, also by a restart, the same request ends with the same keys.
func TestInterruptedDerivation(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"line":                  &command.Error{Class: command.MemberFault, Command: "KD", Err: errors.New("connection lost")},
		"refused by the device": &command.Error{Class: command.CallerFault, Command: "KD", Code: "10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 1; at <= 3; at++ {
				f := &flaky{fail: at, cause: cause}
				s := keyservicetest.New(t, keyservicetest.Options{WrapHSM: func(h keyservice.HSM) keyservice.HSM { f.HSM = h; return f }})
				_, signed := s.Order(t, 1, 1, time.Hour)
				body := request{"psam_no": card, "order": signed}
				status, answer := s.Call(t, "POST", "/v1/cards", "k", body)
				want(t, "interrupted", status, answer, 503, "again")
				s.Stop(t)
				s.Start(t)
				status, answer = s.Call(t, "POST", "/v1/cards", "k", body)
				want(t, "again", status, answer, 201, derivedKCV(t, keys.TDES, "0123456789ABCDEFFEDCBA9876543210"))
				for _, k := range parse[cardAnswer](t, answer).Keys {
					if k.State != "active" || k.Version != 1 {
						t.Errorf("derivation %d: %+v", at, k)
					}
				}
			}
		})
	}
}

// wrong gives another check value from the second derivation of a key on.
type wrong struct {
	keyservice.HSM
	on atomic.Bool
}

func (w *wrong) Diversify(ctx context.Context, req command.Diversification) (keys.Wrapped, error) {
	k, err := w.HSM.Diversify(ctx, req)
	if w.on.Load() {
		k.KCV = "0000000000000001"
	}
	return k, err
}

func TestOtherCheckValueIsRefusedAndAlarmed(t *testing.T) {
	t.Parallel()
	w := &wrong{}
	s := keyservicetest.New(t, keyservicetest.Options{WrapHSM: func(h keyservice.HSM) keyservice.HSM { w.HSM = h; return w }})
	_, signed := s.Order(t, 1, 1, time.Hour)
	body := request{"psam_no": card, "order": signed}
	status, before := s.Call(t, "POST", "/v1/cards", "k1", body)
	want(t, "derive", status, before, 201)
	w.on.Store(true)
	status, answer := s.Call(t, "POST", "/v1/cards", "k2", body)
	want(t, "other key", status, answer, 500, "differs from the stored one", "stop issuing")
	if n, err := testutil.GatherAndCount(s.Registry, "keyward_keys_kcv_mismatch_total"); err != nil || n != 1 {
		t.Errorf("no alarm metric: %v", err)
	}
	w.on.Store(false)
	status, after := s.Call(t, "POST", "/v1/cards", "k3", body)
	want(t, "derive again", status, after, 201)
	if after != before {
		t.Errorf("the stored keys changed: %s, before %s", after, before)
	}
	s.Stop(t)
	if log := s.Log.String(); !strings.Contains(log, "alarm") {
		t.Error("no alarm in the log")
	}
}

// A root whose stored check value is not what the HSM says derives nothing.
func TestSwappedRoot(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	_, signed := s.Order(t, 1, 1, time.Hour)
	other := s.Wrap(t, keys.Root, keys.TDES, "1A2B3C4D5E6F708192A3B4C5D6E7F809")
	pool := s.DB.Pool(t, migrations.RoleKeys)
	if _, err := pool.Exec(t.Context(), `UPDATE keys SET cryptogram = $1 WHERE name = 'PSAM-ROOT' AND algorithm = 'tdes'`, other.Cryptogram); err != nil {
		t.Fatal(err)
	}
	status, answer := s.Call(t, "POST", "/v1/cards", "k", request{"psam_no": card, "order": signed})
	want(t, "swapped root", status, answer, 500, "differs from the stored one")
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM keys WHERE name LIKE 'PSAM:%'`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d keys were intended: %v", n, err)
	}
}

// A script needs the order under which the keys were derived.
func TestScriptUnderAnotherOrder(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	_, first := s.Order(t, 1, 1, time.Hour)
	_, second := s.Order(t, 2, 1, time.Hour)
	status, answer := s.Call(t, "POST", "/v1/cards", "k", request{"psam_no": card, "order": first})
	want(t, "derive", status, answer, 201)
	script := request{"order": second, "step": "master", "challenge": "11223344"}
	status, answer = s.Call(t, "POST", "/v1/cards/"+card+"/scripts", "", script)
	want(t, "order that was not used", status, answer, 409, "derive the keys first")
	status, again := s.Call(t, "POST", "/v1/cards", "k2", request{"psam_no": card, "order": second})
	want(t, "derive under the second order", status, again, 201)
	status, answer = s.Call(t, "POST", "/v1/cards/"+card+"/scripts", "", script)
	want(t, "script under the second order", status, answer, 200)
}

func TestHSMAway(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	_, signed := s.Order(t, 1, 1, time.Hour)
	status, answer := s.Call(t, "GET", "/readyz", "", nil)
	want(t, "ready", status, answer, 200)
	if err := s.Device.SetFaults(hsm.Faults{Refuse: true}); err != nil {
		t.Fatal(err)
	}
	status, answer = s.Call(t, "POST", "/v1/cards", "k", request{"psam_no": card, "order": signed})
	want(t, "derive without HSM", status, answer, 503, "again")
	status, answer = s.Call(t, "GET", "/readyz", "", nil)
	want(t, "not ready", status, answer, 503, "hsm")
}

func TestProductionRefusesTestKeys(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{Profile: service.Production})
	_, signed := s.Order(t, 1, 1, time.Hour)
	status, answer := s.Call(t, "POST", "/v1/cards", "k", request{"psam_no": card, "order": signed})
	want(t, "test roots", status, answer, 503, "root key")
	_, err := keyservice.Import(t.Context(), s.Store, s.HSM, service.Production, "PSAM-OTHER", s.Wrap(t, keys.Root, keys.TDES, "0123456789ABCDEFFEDCBA9876543210"), "", "x")
	if err == nil || !strings.Contains(err.Error(), "public test key") {
		t.Errorf("imported a test key: %v", err)
	}
	_, err = keyservice.Import(t.Context(), s.Store, s.HSM, service.Production, "PSAM-OTHER", s.Wrap(t, keys.Root, keys.TDES, "1A2B3C4D5E6F708192A3B4C5D6E7F809"), "E8934A67", "x")
	if err != nil {
		t.Errorf("a key of one's own: %v", err)
	}
	cfg := keyservice.DefaultConfig()
	cfg.HSM.LMKCheck = "2686047444912422"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "public test key") || !strings.Contains(err.Error(), "listen.tls") {
		t.Errorf("production configuration: %v", err)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{NoImport: true})
	_, signed := s.Order(t, 1, 1, time.Hour)
	status, answer := s.Call(t, "POST", "/v1/cards", "k", request{"psam_no": card, "order": signed})
	want(t, "without roots", status, answer, 503, "posp keys import")
	key := s.Wrap(t, keys.Root, keys.TDES, "1A2B3C4D5E6F708192A3B4C5D6E7F809")
	for what, try := range map[string]struct {
		name string
		key  keys.Wrapped
		kcv  keys.KCV
	}{
		"wrong check value": {"PSAM-ROOT", key, "11111111"}, "card key": {"PSAM:" + card, key, ""},
		"not under the LMK": {"PSAM-ROOT", keys.Wrapped{Usage: keys.Root, Algorithm: keys.TDES, Version: 1, Domain: keyservicetest.Domain, Cryptogram: "U12"}, ""},
	} {
		if _, err := keyservice.Import(t.Context(), s.Store, s.HSM, service.Dev, try.name, try.key, try.kcv, "x"); err == nil {
			t.Errorf("%s: imported", what)
		}
	}
	k, err := keyservice.Import(t.Context(), s.Store, s.HSM, service.Dev, "PSAM-ROOT", key, "E8934A67", "x")
	if err != nil || k.KCV != "E8934A67B700AA4F" || k.State != keys.Active {
		t.Errorf("imported %v: %v", k, err)
	}
}

// Only clients with a certificate of the right authority get in.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	anonymous := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}
	defer anonymous.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: anonymous}).Do(r)
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("served a client without a certificate")
	}
}

// A certificate of the right authority is not enough: its name must be one that may ask.
func TestOnlyNamedClientsAsk(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{Clients: []string{"posp-2"}})
	_, signed := s.Order(t, 1, 1, time.Hour)
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/v1/cards", request{"psam_no": card, "order": signed}},
		{"POST", "/v1/cards/" + card + "/scripts", request{"order": signed, "step": "master", "challenge": "00000000"}},
		{"GET", "/v1/cards/" + card, nil},
	} {
		status, answer := s.Call(t, call.method, call.path, "k", call.body)
		want(t, call.method+" "+call.path, status, answer, 403, "may not ask")
	}
	cfg := keyservice.DefaultConfig()
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "clients: ") {
		t.Errorf("production without clients: %v", err)
	}
	// A client must not get the rights of people: P1.
	for where, change := range map[string]func(*keyservice.Config, string){
		"hsm_operation.operators": func(c *keyservice.Config, name string) { c.HSMOperation.Operators = []string{"li", name} },
		"hsm_operation.relays":    func(c *keyservice.Config, name string) { c.HSMOperation.Relays = []string{name} },
		"rewrap.operators":        func(c *keyservice.Config, name string) { c.Rewrap.Operators = []string{name} },
	} {
		for name, refused := range map[string]bool{"posp": true, "": true, "wang": false} {
			cfg := keyservice.DefaultConfig()
			cfg.Clients = []string{"posp"}
			change(&cfg, name)
			if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), where) != refused {
				t.Errorf("%s: %q: %v", where, name, err)
			}
		}
	}
}
