package posv_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
)

func TestDeviceTable(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.fill(t)
	v := s.must(t, 200, "GET", "/v1/terminals/"+t1, "")
	if v["psam_no"] != psam(1) || v["card_state"] != "in_service" || v["state"] != "active" || v["key_state"] != "never" || v["algorithm"] != "tdes" || v["mak_length"] != 8.0 {
		t.Errorf("%v", v)
	}
	// The same again changes nothing and says so by its status.
	s.must(t, 200, "PUT", "/v1/merchants/"+shop, `{"name":"Shop <b>&"}`)
	s.must(t, 200, "PUT", "/v1/terminals/"+t1, `{"merchant_id":"`+shop+`"}`)
	s.must(t, 200, "POST", "/v1/cards", `{"psam_no":"`+psam(1)+`"}`)
	s.must(t, 200, "PUT", "/v1/terminals/"+t1+"/card", `{"psam_no":"`+psam(1)+`"}`)
	s.must(t, 200, "POST", "/v1/terminals/"+t1+"/state", `{"state":"suspended","reason":"stolen?"}`, "X-Operator", "wang")
	s.must(t, 200, "POST", "/v1/terminals/"+t1+"/state", `{"state":"active","reason":"found"}`, "X-Operator", "wang")
	ended := s.must(t, 200, "DELETE", "/v1/terminals/"+t1+"/card?reason=worn", "")
	if ended["valid_to"] == nil {
		t.Errorf("%v", ended)
	}
	lists := map[string]int{
		"/v1/merchants": 1, "/v1/terminals": 2, "/v1/terminals?state=active&merchant=" + shop: 2, "/v1/terminals?text=0002": 1, "/v1/cards?state=in_service": 1,
		"/v1/terminals/" + t1 + "/bindings": 1, "/v1/terminals/" + t1 + "/events": 5, "/v1/terminals/" + t1 + "/sign-ons": 0, "/v1/terminals?limit=1": 1,
		"/v1/terminals?limit=1&after=" + t1: 1, "/v1/terminals?after=" + t2: 0, "/v1/audit?actor=wang": 2, "/v1/audit?object=terminal:" + t1 + "&order=newest": 5,
		"/v1/audit?action=card.register&service=posv&since=2026-01-01T00:00:00%2B08:00": 2,
	}
	for path, want := range lists {
		page := s.must(t, 200, "GET", path, "")
		if items, ok := page["items"].([]any); !ok || len(items) != want {
			t.Errorf("%s: %v, want %d", path, page, want)
		}
		if strings.Contains(path, "limit=1") != (page["next"] != nil) {
			t.Errorf("%s: next %v", path, page["next"])
		}
	}
	card := s.must(t, 200, "GET", "/v1/cards/"+psam(1), "")
	if len(card["events"].([]any)) != 5 || len(card["bindings"].([]any)) != 1 {
		t.Errorf("%v", card)
	}
	if o := s.must(t, 200, "GET", "/v1/overview", ""); o["registered"] != 2.0 || o["never"] != 2.0 || len(o["sign_ons_per_hour"].([]any)) != 24 {
		t.Errorf("%v", o)
	}
	for _, path := range []string{"/livez", "/readyz", "/openapi.json"} {
		s.must(t, 200, "GET", path, "")
	}
	if m := s.do(t, "GET", "/metrics", ""); m.status != 200 || !strings.Contains(m.body, `posv_request_seconds_count{method="PUT",status="4xx"} 0`) || strings.Contains(m.body, t1) {
		t.Errorf("metrics: %d", m.status)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.fill(t)
	tests := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/nothing", "", 404, "openapi"},
		{"PATCH", "/v1/cards", "", 405, "openapi"},
		{"GET", "/v1/merchants/x", "", 404, "PUT /v1/merchants"},
		{"GET", "/v1/terminals/x", "", 404, "PUT /v1/terminals"},
		{"GET", "/v1/terminals/x/bindings", "", 404, "not registered"},
		{"GET", "/v1/cards/x", "", 404, "POST /v1/cards"},
		{"GET", "/v1/orders/x", "", 404, "no such order"},
		{"GET", "/v1/terminals?limit=0", "", 400, "1 to 500"},
		{"GET", "/v1/cards?limit=x", "", 400, "1 to 500"},
		{"GET", "/v1/audit?after=x", "", 400, "number"},
		{"GET", "/v1/audit?since=yesterday", "", 400, "2026"},
		{"GET", "/v1/orders?after=x", "", 422, "after"},
		{"PUT", "/v1/merchants/" + shop, "", 415, "Content-Type"},
		{"PUT", "/v1/merchants/" + shop, `{"name":"x","nam":"y"}`, 400, "unknown member"},
		{"PUT", "/v1/merchants/" + shop, `{"name":""}`, 422, "name"},
		{"PUT", "/v1/merchants/1", `{"name":"x"}`, 422, "15 letters"},
		{"PUT", "/v1/merchants/" + shop, `{"name":"x","state":"gone"}`, 422, "active, suspended"},
		{"PUT", "/v1/terminals/" + t1, `{"merchant_id":"104110000000009"}`, 409, "PUT /v1/merchants/104110000000009"},
		{"PUT", "/v1/terminals/" + t1, `{"merchant_id":"` + shop + `","algorithm":"aes"}`, 422, "des, tdes, sm4"},
		{"PUT", "/v1/terminals/" + t1, `{"merchant_id":"` + shop + `","mak_length":9}`, 422, "8 or 16"},
		{"PUT", "/v1/terminals/" + t1, `{"merchant_id":"` + shop + `","mak_length":"8"}`, 400, "wrong type"},
		{"POST", "/v1/terminals/" + t1 + "/state", `{"state":"sold","reason":"x"}`, 422, "retired"},
		{"POST", "/v1/terminals/" + t1 + "/state", `{"state":"lost"}`, 422, "reason"},
		{"PUT", "/v1/terminals/" + t2 + "/card", `{"psam_no":"` + psam(1) + `"}`, 409, "DELETE /v1/terminals"},
		{"PUT", "/v1/terminals/" + t2 + "/card", `{"psam_no":"` + psam(9) + `"}`, 404, "not registered"},
		{"PUT", "/v1/terminals/" + t2 + "/card", `{"psam_no":"9"}`, 422, "20 digits"},
		{"DELETE", "/v1/terminals/" + t2 + "/card?reason=x", "", 409, "no card"},
		{"DELETE", "/v1/terminals/" + t1 + "/card", "", 422, "reason"},
		{"POST", "/v1/cards", `{"psam_no":"1"}`, 422, "20 digits"},
		{"POST", "/v1/cards/" + psam(1) + "/state", `{"state":"personalised","reason":"x"}`, 409, "suspended, lost, retired"},
		{"POST", "/v1/orders", `{"psam_from":"1","count":1,"algorithms":["tdes"],"expires_at":"2099-01-01T00:00:00Z"}`, 422, "20 digits"},
		{"POST", "/v1/orders", draft(psam(1), 0, "tdes", time.Hour), 422, "count"},
		{"POST", "/v1/orders", draft("99999999999999999999", 2, "tdes", time.Hour), 422, "beyond"},
		{"POST", "/v1/orders", draft(psam(1), 1, "des", time.Hour), 422, "tdes"},
		{"POST", "/v1/orders", draft(psam(1), 1, "rot13", time.Hour), 422, "sm4"},
		{"POST", "/v1/orders", draft(psam(1), 1, "tdes", -time.Hour), 422, "future"},
		{"POST", "/v1/orders", draft(psam(1), 1, "tdes", 9000*time.Hour), 422, "366 days"},
		{"POST", "/v1/orders/00000000-0000-4000-8000-000000000000/approvals", "{}", 404, "no such order"},
		{"POST", "/v1/orders/00000000-0000-4000-8000-000000000000/withdrawal", "{}", 422, "reason"},
	}
	for _, test := range tests {
		r := s.do(t, test.method, test.path, test.body)
		var p struct {
			Status         int
			Detail         string
			NextStep       string `json:"next_step"`
			Title, Type    string
			InstanceOfCall string `json:"instance"`
		}
		if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.status != test.status || p.Status != test.status ||
			!strings.Contains(p.Detail+" "+p.NextStep, test.want) || p.NextStep == "" || r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %s: %d %s, want %d with %q", test.method, test.path, test.body, r.status, r.body, test.status, test.want)
		}
	}
}

func draft(from string, count int, algorithm string, life time.Duration) string {
	return fmt.Sprintf(`{"psam_from":%q,"count":%d,"algorithms":[%q],"expires_at":%q}`, from, count, algorithm, time.Now().Add(life).UTC().Format(time.RFC3339))
}

// TestOrderNeedsTwoPeople: one person's approvals count once, the second person's makes a document that the key service accepts.
func TestOrderNeedsTwoPeople(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	made := s.must(t, 201, "POST", "/v1/orders", draft(psam(10), 5, "tdes", time.Hour), "X-Operator", "author", "Idempotency-Key", "k1")
	id := made["order_id"].(string)
	if again := s.must(t, 201, "POST", "/v1/orders", draft(psam(10), 5, "tdes", time.Hour), "X-Operator", "author", "Idempotency-Key", "k2"); again["order_id"] == id {
		t.Error("another key gave the same order")
	}
	if made["state"] != "draft" || made["approvals_needed"] != 2.0 || made["document"] != nil {
		t.Errorf("%v", made)
	}
	approvals := "/v1/orders/" + id + "/approvals"
	for range 2 {
		if o := s.must(t, 200, "POST", approvals, "{}", "X-Operator", "author"); o["state"] != "draft" || o["approvals_needed"] != 1.0 {
			t.Fatalf("one person signs alone: %v", o)
		}
	}
	o := s.must(t, 200, "POST", approvals, "{}", "X-Operator", "second")
	if o["state"] != "signed" {
		t.Fatalf("%v", o)
	}
	found := s.must(t, 200, "GET", "/v1/orders?state=signed&psam_no="+psam(14), "")["items"].([]any)
	if len(found) != 1 {
		t.Fatalf("%v", found)
	}
	one := found[0].(map[string]any)
	var signedOrder order.Signed
	var errs [2]error
	signedOrder.Document, errs[0] = base64.StdEncoding.DecodeString(one["document"].(string))
	signedOrder.Signature, errs[1] = base64.StdEncoding.DecodeString(one["signature"].(string))
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	doc, err := order.Verify(signing.Public().(ed25519.PublicKey), signedOrder, time.Now())
	if err != nil || doc.ID != id || !doc.Covers(psam(14)) || doc.Covers(psam(15)) || strings.Join(doc.Approvers, " ") != "author second" || doc.Author != "author" {
		t.Fatalf("%+v, %v", doc, err)
	}
	for _, query := range []string{"psam_no=" + psam(15), "psam_no=x", "psam_no=" + psam(9), "state=withdrawn"} {
		if page := s.must(t, 200, "GET", "/v1/orders?"+query, ""); len(page["items"].([]any)) != 0 {
			t.Errorf("%s: %v", query, page)
		}
	}
	if r := s.do(t, "POST", approvals, "{}", "X-Operator", "third"); r.status != 409 || !strings.Contains(r.body, "is signed") {
		t.Errorf("a signed order is approved again: %d %s", r.status, r.body)
	}
	// Withdrawn, it is offered to nobody, and cannot be approved.
	for range 2 {
		if o := s.must(t, 200, "POST", "/v1/orders/"+id+"/withdrawal", `{"reason":"wrong range"}`); o["state"] != "withdrawn" {
			t.Errorf("%v", o)
		}
	}
	if page := s.must(t, 200, "GET", "/v1/orders?state=signed", ""); len(page["items"].([]any)) != 0 {
		t.Errorf("%v", page)
	}
	first := s.must(t, 200, "GET", "/v1/orders?limit=1", "")
	second := s.must(t, 200, "GET", "/v1/orders?limit=1&after="+first["next"].(string), "")
	if len(second["items"].([]any)) != 1 || second["items"].([]any)[0].(map[string]any)["order_id"] != id {
		t.Errorf("%v then %v", first, second)
	}
	actions := map[string]int{}
	for _, rec := range s.must(t, 200, "GET", "/v1/audit?object=order:"+id, "")["items"].([]any) {
		actions[rec.(map[string]any)["action"].(string)]++
	}
	if fmt.Sprint(actions) != "map[order.approve:2 order.create:1 order.sign:1 order.withdraw:1]" {
		t.Errorf("%v", actions)
	}
}

func TestIdempotencyOverRestart(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	body := draft(psam(1), 1, "sm4", time.Hour)
	first := s.do(t, "POST", "/v1/orders", body, "Idempotency-Key", "k")
	again := s.do(t, "POST", "/v1/orders", body, "Idempotency-Key", "k")
	if first.status != 201 || again.status != 201 || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" || again.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v then %v", first, again)
	}
	if r := s.do(t, "POST", "/v1/orders", draft(psam(2), 1, "sm4", time.Hour), "Idempotency-Key", "k"); r.status != 422 {
		t.Errorf("another request under the same key: %v", r)
	}
	if r := s.do(t, "POST", "/v1/orders", body, "Idempotency-Key", "k", "X-Operator", "another"); r.body == first.body {
		t.Error("keys of two people meet")
	}
	bad := s.do(t, "POST", "/v1/cards", `{"psam_no":"1"}`, "Idempotency-Key", "bad")
	if r := s.do(t, "POST", "/v1/cards", `{"psam_no":"1"}`, "Idempotency-Key", "bad"); r.status != 422 || r.body != bad.body || r.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%v then %v", bad, r)
	}
}

// TestPospHears: a change over the API reaches a listener of posp's role at once.
func TestPospHears(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.fill(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.db.URL(migrations.RolePOSP))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN keyward_device"); err != nil {
		t.Fatal(err)
	}
	s.must(t, 200, "PUT", "/v1/merchants/"+shop, `{"name":"Shop","state":"suspended"}`)
	for _, want := range []string{t1, t2} {
		heard, err := conn.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var terminal, kind string
		if err := conn.QueryRow(ctx, "SELECT terminal_id, kind FROM device_changes WHERE seq = $1::bigint", heard.Payload).Scan(&terminal, &kind); err != nil || terminal != want || kind != "merchant" {
			t.Fatalf("%s %s, %v; want %s", terminal, kind, err, want)
		}
	}
}

func TestWhoMayChange(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *posv.Config) {
		c.Profile, c.API.Private = service.Production, true
		c.TokenFile = secretFile(t, "token", []byte("a token of the tests\n"))
	})
	const path, body = "/v1/merchants/" + shop, `{"name":"x"}`
	token := []string{"Authorization", "Bearer a token of the tests"}
	tests := []struct {
		name    string
		headers []string
		status  int
	}{
		{"no token", []string{"X-Operator", "li"}, 401},
		{"wrong token", []string{"X-Operator", "li", "Authorization", "Bearer x"}, 401},
		{"no name", token, 400},
		{"a name of two lines", append([]string{"X-Operator", "li\twang"}, token...), 400},
		{"a long name", append([]string{"X-Operator", strings.Repeat("x", 129)}, token...), 400},
		{"a page of another site", append([]string{"X-Operator", "li", "Sec-Fetch-Site", "cross-site"}, token...), 403},
		{"right", append([]string{"X-Operator", "li"}, token...), 201},
	}
	for _, test := range tests {
		if r := s.do(t, "PUT", path, body, test.headers...); r.status != test.status || strings.Contains(r.body, "a token of") {
			t.Errorf("%s: %d %s, want %d", test.name, r.status, r.body, test.status)
		}
	}
	s.must(t, 200, "GET", path, "") // reading needs none
	// But a signed order is a right in itself.
	for _, path := range []string{"/v1/orders", "/v1/orders/00000000-0000-0000-0000-000000000001"} {
		if r := s.do(t, "GET", path, ""); r.status != 401 {
			t.Errorf("%s without a token: %d", path, r.status)
		}
	}
	s.must(t, 200, "GET", "/v1/orders", "", token...)
	o := s.must(t, 201, "POST", "/v1/orders", draft(psam(1), 1, "tdes", time.Hour), append([]string{"X-Operator", "li"}, token...)...)
	if r := s.do(t, "POST", "/v1/orders/"+o["order_id"].(string)+"/approvals", "{}", append([]string{"X-Operator", "li"}, token...)...); r.status != 403 || !strings.Contains(r.body, "certificate") {
		t.Errorf("an approval by header in production: %d %s", r.status, r.body)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := func() posv.Config {
		c := posv.DefaultConfig()
		c.API.Addr, c.API.Private, c.TokenFile, c.OrderKeyFile, c.Database.URLFile = "127.0.0.1:1", true, "t", "k", "u"
		return c
	}
	c := good()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*posv.Config){
		"database.url_file": func(c *posv.Config) { c.Database.URLFile = "" },
		"api.addr":          func(c *posv.Config) { c.API.Addr = "" },
		"openssl genpkey":   func(c *posv.Config) { c.OrderKeyFile = "" },
		"Asia/Shanghai":     func(c *posv.Config) { c.Timezone = "Mars" },
		"private: true":     func(c *posv.Config) { c.API.Private = false },
		"token_file":        func(c *posv.Config) { c.TokenFile = "" },
	}
	for want, change := range tests {
		c := good()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// The file form, with a typing mistake.
	path := filepath.Join(t.TempDir(), "posv.yaml")
	if err := os.WriteFile(path, []byte("profile: dev\napi:\n  addr: 127.0.0.1:8080\norder_key: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = posv.DefaultConfig()
	if err := service.LoadConfig(path, &c); err == nil || !strings.Contains(err.Error(), "order_key_file") {
		t.Errorf("%v", err)
	}
}

// TestStartFails: what is missing is named, and what was started is stopped.
func TestStartFails(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*posv.Config){
		"order_key_file":   func(c *posv.Config) { c.OrderKeyFile = secretFile(t, "k", []byte("no key")) },
		"token_file":       func(c *posv.Config) { c.TokenFile = "/gone" },
		"connection":       func(c *posv.Config) { c.Database.URLFile = secretFile(t, "u", []byte("hidden:[")) },
		"cannot listen on": func(c *posv.Config) { c.API.Addr = "192.0.2.1:1" },
	}
	for want, change := range tests {
		s := start(t, nil)
		cfg := posv.DefaultConfig()
		cfg.API.Addr, cfg.OrderKeyFile = "127.0.0.1:0", orderKey(t)
		cfg.Database.URLFile = secretFile(t, "url", []byte(s.db.URL(migrations.RolePOSV)))
		change(&cfg)
		app, err := posv.New(posv.Options{Config: cfg, Registry: service.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v, want %s", err, want)
		}
		if err := app.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
