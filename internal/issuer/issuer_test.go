package issuer_test

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/issuer"
	"github.com/keyward/keyward/internal/keyservice/keyservicetest"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/keys/pboc"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/migrations"
)

// masterKCV is what the root key of the development data gives for the card.
func masterKCV(t *testing.T, psamNo string) string {
	t.Helper()
	return masterKCVOf(t, keys.TDES, psamNo)
}

func masterKCVOf(t *testing.T, algorithm keys.Algorithm, psamNo string) string {
	t.Helper()
	root, err := hex.DecodeString("0123456789ABCDEFFEDCBA9876543210")
	must(t, err)
	factor, err := pboc.FactorOf(psamNo)
	must(t, err)
	key, err := pboc.Derive(algorithm, secret.New(root), factor)
	must(t, err)
	check, err := kcv.Of(algorithm, key)
	must(t, err)
	return string(check)
}

// checkCard looks into the card and the registry.
func (w *world) checkCard(psamNo string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.cards[psamNo]
	c.Reset()
	c.Transmit([]byte{0x00, 0xA4, 0x00, 0x00, 0x02, 0xDF, 0x01})
	if got := fmt.Sprintf("%X", c.Transmit([]byte{0x80, 0xF6, 0x10, 0x01, 0x04})); got != masterKCV(w.t, psamNo)[:8]+"9000" {
		w.t.Errorf("the card's master key: %s", got)
	}
	if w.states[psamNo] != "personalised" {
		w.t.Errorf("the registry says the card is %q", w.states[psamNo])
	}
	if slices.Contains(w.statuses, "6988") {
		w.t.Error("the card saw a wrong MAC")
	}
}

// TestIssueSM4: under an order for SM4 alone all keys of the card are SM4 keys, the master key under the id of the SM4 twin.
func TestIssueSM4(t *testing.T) {
	t.Parallel()
	const psamNo = "60000000000000000201"
	w := newWorld(t, keyservicetest.TransportKey)
	w.keys.ImportSM4(t)
	id, _ := w.offer(w.keys.OrderFrom(t, 1, psamNo, 10, time.Hour, keys.SM4))
	status, answer := w.issue("sm4", map[string]any{"psam_no": psamNo, "order_id": id})
	want(t, "issue", status, answer, 201, `"state":"personalised"`)
	expect := masterKCVOf(t, keys.SM4, psamNo)[:16]
	if got := parse[issued](t, answer); got.KCV != expect {
		t.Errorf("check value %s, want %s", got.KCV, expect)
	}
	w.mu.Lock()
	c := w.cards[psamNo]
	w.mu.Unlock()
	c.Reset()
	c.Transmit([]byte{0x00, 0xA4, 0x00, 0x00, 0x02, 0xDF, 0x01})
	for key, want := range map[[2]byte]string{{0x10, 0x41}: expect[:8] + "9000", {0x10, 0x01}: "6A88"} {
		if got := fmt.Sprintf("%X", c.Transmit([]byte{0x80, 0xF6, key[0], key[1], 0x04})); got != want {
			t.Errorf("key %X: %s, want %s", key, got, want)
		}
	}
	// The same again, and by a new run: nothing is written twice.
	status, answer = w.issue("again", map[string]any{"psam_no": psamNo, "order_id": id})
	want(t, "again", status, answer, 201, `{"name":"master","result":"already"}`, expect)
	status, answer = w.issue("again", map[string]any{"psam_no": psamNo, "order_id": id})
	want(t, "repeat", status, answer, 201, expect)
}

// TestIssueOtherCipher: a card whose transport key is of the other cipher refuses the first key and is not personalised.
func TestIssueOtherCipher(t *testing.T) {
	t.Parallel()
	const psamNo = "60000000000000000201"
	w := newWorld(t, keyservicetest.TransportKey)
	id, _ := w.offer(w.keys.OrderFrom(t, 1, psamNo, 10, time.Hour, keys.TDES))
	status, answer := w.issue("tdes", map[string]any{"psam_no": psamNo, "order_id": id})
	if status == 201 || !strings.Contains(answer, "card control key") {
		t.Errorf("%d %s", status, answer)
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyservicetest.TransportKey)
	orderID, _ := w.order(1, 20, time.Hour)
	for i, psamNo := range []string{card, "60000000000000000002"} {
		body := map[string]any{"psam_no": psamNo}
		if i == 1 {
			body["order_id"] = orderID
		}
		status, answer := w.issue(psamNo, body)
		want(t, "issue", status, answer, 201)
		got := parse[issued](t, answer)
		var steps []string
		for _, s := range got.Steps {
			steps = append(steps, s.Name+" "+s.Result)
		}
		if got.KCV != masterKCV(t, psamNo) || got.State != "personalised" || got.PSAM != psamNo {
			t.Errorf("issued %+v", got)
		}
		if all := strings.Join(steps, ", "); all != "register done, derive done, connect done, card-control done, application-control done, master done, verify done, mark done" {
			t.Errorf("steps: %s", all)
		}
		w.checkCard(psamNo)
		status, run, err := w.send(http.MethodGet, "/v1/runs/"+got.Run, "", nil)
		must(t, err)
		want(t, "run", status, run, 200, `"state":"personalised"`, `"step":"mark"`, orderID)
	}
	status, answer, err := w.send(http.MethodGet, "/v1/runs?psam_no="+card, "", nil)
	must(t, err)
	want(t, "runs", status, answer, 200, card)
	if strings.Contains(answer, "60000000000000000002") {
		t.Error("the list shows another card's runs")
	}
	status, answer, err = w.send(http.MethodGet, "/v1/cards/"+card, "", nil)
	must(t, err)
	want(t, "card", status, answer, 200, masterKCV(t, card), "runs")
	var actor string
	must(t, w.keys.DB.Pool(t, migrations.RolePOSV).QueryRow(t.Context(), `SELECT actor FROM audit WHERE action = 'card.issue' LIMIT 1`).Scan(&actor))
	if actor != "carol" {
		t.Errorf("the audit names %q", actor)
	}
	// The card again, with a new key: everything is there already, and nothing leaves the key service.
	status, answer = w.issue("again", map[string]any{"psam_no": card})
	want(t, "again", status, answer, 201, `{"name":"master","result":"already"}`, `{"name":"mark","result":"already"}`)
	for path, code := range map[string]int{"/v1/runs?limit=0": 400, "/v1/runs?psam_no=1": 400, "/v1/runs/1": 404, "/v1/cards/1": 400, "/v1/cards/69999999999999999999": 404, "/readyz": 200, "/openapi.json": 200} {
		status, answer, err := w.send(http.MethodGet, path, "", nil)
		must(t, err)
		want(t, path, status, answer, code)
	}
}

func TestSameKeyTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyservicetest.TransportKey)
	w.order(1, 20, time.Hour)
	status, first := w.issue("k", map[string]any{"psam_no": card})
	want(t, "first", status, first, 201)
	calls := w.calls
	status, again := w.issue("k", map[string]any{"psam_no": card})
	want(t, "again", status, again, 201)
	if again != first || w.calls != calls {
		t.Errorf("the same key gave %s after %d calls", again, w.calls-calls)
	}
	w.stop()
	w.start() // what memory knew is gone
	status, again = w.issue("k", map[string]any{"psam_no": card})
	want(t, "after a restart", status, again, 201)
	if a, b := parse[issued](t, first), parse[issued](t, again); a.Run != b.Run || a.KCV != b.KCV {
		t.Errorf("after a restart: %+v, before %+v", b, a)
	}
	w.stop()
	w.start()
	status, answer := w.issue("k", map[string]any{"psam_no": "60000000000000000002"})
	want(t, "another card", status, answer, 422, "another card")
	status, answer = w.issue("", map[string]any{"psam_no": card})
	want(t, "no key", status, answer, 400)
	status, answer = w.issue("bad", map[string]any{"psam_no": "1"})
	want(t, "bad number", status, answer, 400, "20 digits")
}

// Whatever request is lost, or whose answer is lost, the card is issued by running it again after a restart. The first tries keep
// their idempotency key, so the run goes on under its number.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer lost %v", after), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, keyservicetest.TransportKey)
			w.order(1, 99, time.Hour)
			issuers := w.keys.DB.Pool(t, migrations.RoleIssuer)
			crashes := 0
			for at := 1; ; at++ {
				psamNo := fmt.Sprintf("6%019d", at)
				w.mu.Lock()
				w.calls, w.crash = 0, crash{at, after}
				w.mu.Unlock()
				status, answer := w.issue(psamNo, map[string]any{"psam_no": psamNo})
				w.mu.Lock()
				over := w.calls < at
				w.crash = crash{}
				w.mu.Unlock()
				if over {
					want(t, "no crash", status, answer, 201)
					break
				}
				if crashes++; status != 502 && !(status == 201 && after) {
					// net/http repeats some lost requests by itself, then there is nothing to see.
					if status != 201 {
						t.Fatalf("crash at request %d: status %d: %s", at, status, answer)
					}
				}
				w.stop()
				if status != 201 {
					// A process that died could not record its failure.
					_, err := issuers.Exec(t.Context(), `UPDATE issue_runs SET state = 'started', error = '' WHERE psam_no = $1`, psamNo)
					must(t, err)
				}
				w.start()
				status, answer = w.issue(psamNo, map[string]any{"psam_no": psamNo})
				want(t, fmt.Sprintf("run after a crash at request %d", at), status, answer, 201, masterKCV(t, psamNo))
				w.checkCard(psamNo)
				var n int
				must(t, issuers.QueryRow(t.Context(), `SELECT count(*) FROM issue_runs WHERE psam_no = $1`, psamNo).Scan(&n))
				if n != 1 {
					t.Errorf("crash at request %d: %d runs, want 1", at, n)
				}
			}
			if crashes < 15 {
				t.Errorf("only %d places to crash at: the test no longer reaches the flow", crashes)
			}
		})
	}
}

func TestWrongTransportKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "00112233445566778899AABBCCDDEEFF")
	w.order(1, 20, time.Hour)
	status, answer := w.issue("k", map[string]any{"psam_no": card})
	want(t, "foreign card", status, answer, 409, "transport key", "another maker")
	if w.states[card] != "registered" {
		t.Errorf("the registry says the card is %q", w.states[card])
	}
	status, answer, err := w.send(http.MethodGet, "/v1/runs?psam_no="+card, "", nil)
	must(t, err)
	want(t, "run", status, answer, 200, `"state":"failed"`, `"step":"card-control"`, "transport key")
	for _, key := range []string{"k2", "k3"} {
		status, answer = w.issue(key, map[string]any{"psam_no": card})
	}
	want(t, "third try", status, answer, 409)
	status, answer = w.issue("k4", map[string]any{"psam_no": card})
	want(t, "locked", status, answer, 409, "locked")
}

func TestCardOfAnotherNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyservicetest.TransportKey)
	w.order(1, 20, time.Hour)
	status, answer := w.issue("k", map[string]any{"psam_no": "60000000000000000002"})
	want(t, "issue", status, answer, 201)
	w.mu.Lock()
	w.cards[card] = w.cards["60000000000000000002"]
	w.mu.Unlock()
	status, answer = w.issue("k2", map[string]any{"psam_no": card})
	want(t, "other card in the reader", status, answer, 409, "right card")
}

func TestOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyservicetest.TransportKey)
	status, answer := w.issue("none", map[string]any{"psam_no": card})
	want(t, "no order", status, answer, 409, "no open, signed order", "approved")
	status, answer = w.issue("named", map[string]any{"psam_no": card, "order_id": "0e7f6f5a-7f43-4d55-9d3c-000000000009"})
	want(t, "unknown order", status, answer, 409, "no open, signed order")
	w.order(1, 20, -time.Hour) // the registry's clock may be behind
	status, answer = w.issue("expired", map[string]any{"psam_no": card})
	want(t, "expired", status, answer, 403, "expired")
	w.orders = nil
	w.order(2, 1, time.Hour)
	status, answer = w.issue("outside", map[string]any{"psam_no": "60000000000000000002"})
	want(t, "outside the range", status, answer, 403, "not valid for this card")
	w.orders = nil
	_, signed := w.order(3, 1, time.Hour)
	status, answer = w.keys.Call(t, "POST", "/v1/cards", "k", map[string]any{"psam_no": card, "order": signed})
	want(t, "derive", status, answer, 201)
	for range 10 {
		w.keys.Call(t, "POST", "/v1/cards/"+card+"/scripts", "", map[string]any{"order": signed, "step": "application-control", "challenge": "00000000"})
	}
	status, answer = w.issue("used", map[string]any{"psam_no": card})
	want(t, "used up", status, answer, 409, "used up")
}

// A card that says 9000 and holds something else is found out.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyservicetest.TransportKey)
	w.order(1, 20, time.Hour)
	w.alter = func(apdu, answer string) string {
		if apdu == "80F6100104" {
			return "000000009000"
		}
		return answer
	}
	status, answer := w.issue("k", map[string]any{"psam_no": card})
	want(t, "verify", status, answer, 409, "verify", "take the card out of use")
	if w.states[card] != "registered" {
		t.Errorf("the registry says the card is %q", w.states[card])
	}
}

func TestRegistryForbids(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyservicetest.TransportKey)
	w.order(1, 20, time.Hour)
	for _, state := range []string{"in_service", "suspended", "lost", "retired", "destroyed"} {
		w.mu.Lock()
		w.states[card] = state
		w.mu.Unlock()
		status, answer := w.issue(state, map[string]any{"psam_no": card})
		want(t, state, status, answer, 409, "use another card")
	}
	if len(w.statuses) != 0 {
		t.Error("the card was touched")
	}
}

func TestKeyServiceDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyservicetest.TransportKey)
	w.order(1, 20, time.Hour)
	w.keys.Stop(t)
	status, answer := w.issue("k", map[string]any{"psam_no": card})
	want(t, "down", status, answer, 502, "again")
	w.keys.Start(t)
	status, answer = w.issue("k", map[string]any{"psam_no": card})
	want(t, "up again, with the same key", status, answer, 201)
	w.checkCard(card)
}

// A card is in one run at a time, and stopping lets a run end.
func TestOneRunPerCard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyservicetest.TransportKey)
	w.order(1, 20, time.Hour)
	w.hold, w.held = make(chan struct{}), make(chan struct{}, 100)
	release := sync.OnceFunc(func() { close(w.hold) })
	t.Cleanup(release) // before the servers close, also when the test fails
	type result struct {
		status int
		answer string
	}
	first := make(chan result, 1)
	go func() {
		status, answer, err := w.send(http.MethodPost, "/v1/cards", "k1", []byte(`{"psam_no":"`+card+`"}`))
		if err != nil {
			answer = err.Error()
		}
		first <- result{status, answer}
	}()
	<-w.held
	status, answer := w.issue("k2", map[string]any{"psam_no": card})
	want(t, "second run", status, answer, 503, "under way")
	release()
	got := <-first
	want(t, "first run", got.status, got.answer, 201)
	w.checkCard(card)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := func() issuer.Config {
		c := issuer.DefaultConfig()
		c.Profile, c.Database.URLFile, c.Listen.Addr = service.Dev, "x", "127.0.0.1:0"
		c.POSP.URL, c.Registry.URL = "http://127.0.0.1:1", "http://127.0.0.1:2"
		c.Reader = issuer.ReaderConfig{Driver: issuer.DriverSim, URL: "http://127.0.0.1:3"}
		return c
	}
	for word, change := range map[string]func(*issuer.Config){
		"":                  func(*issuer.Config) {},
		"url_file":          func(c *issuer.Config) { c.Database.URLFile = "" },
		"max_connections":   func(c *issuer.Config) { c.Database.MaxConnections = 8 },
		"listen.addr":       func(c *issuer.Config) { c.Listen.Addr = "" },
		"posp.url":          func(c *issuer.Config) { c.POSP.URL = "127.0.0.1:1" },
		"registry: https":   func(c *issuer.Config) { c.Registry.URL = "https://127.0.0.1:1" },
		"reader.driver":     func(c *issuer.Config) { c.Reader.Driver = "magic" },
		"reader.url":        func(c *issuer.Config) { c.Reader.URL = "" },
		"simulated cards":   func(c *issuer.Config) { c.Profile = service.Production },
		"plain HTTP":        func(c *issuer.Config) { c.Profile = service.Production },
		"listen (127.0.0.1": func(c *issuer.Config) { c.Profile = service.Production },
	} {
		c := good()
		change(&c)
		err := c.Validate()
		if word == "" && err != nil || word != "" && (err == nil || !strings.Contains(err.Error(), word)) {
			t.Errorf("%q: %v", word, err)
		}
	}
}
