package posv_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
)

// operated is a posv in front of the HSM operation of one posp.
func operated(t *testing.T, change func(*posv.Config)) (*system, *hsmopstest.Cluster) {
	t.Helper()
	cluster := hsmopstest.NewCluster()
	h, err := hsmops.New(hsmops.Options{Cluster: cluster, Operators: []string{"li", "dev"}, Relays: []string{"posv"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	router := chi.NewRouter()
	h.Mount(router)
	listener := hsmopstest.Listen(t, router, "posv", "issuer")
	c := listener.Config("posv")
	s := start(t, func(cfg *posv.Config) {
		for _, name := range []string{"posp-1", "away"} {
			url := c.URL
			if name == "away" {
				url = "https://127.0.0.1:1"
			}
			cfg.POSPs = append(cfg.POSPs, posv.POSPConfig{Name: name, URL: url, TLS: &service.TLSConfig{Cert: c.Cert, Key: service.SecretFile(c.Key), CA: c.CA}})
		}
		if change != nil {
			change(cfg)
		}
	})
	return s, cluster
}

// TestRelay: reads and changes go through to posp; a change carries the operator's name, and audit has it before and after.
func TestRelay(t *testing.T) {
	t.Parallel()
	s, cluster := operated(t, nil)
	if o := s.must(t, 200, "GET", "/v1/posps/posp-1/hsm", ""); len(o["members"].([]any)) != 3 {
		t.Errorf("%v", o)
	}
	if o := s.must(t, 200, "GET", "/v1/posps", ""); len(o["items"].([]any)) != 2 {
		t.Errorf("%v", o)
	}
	if o := s.must(t, 200, "GET", "/v1/posps/posp-1/hsm/history?limit=1", ""); len(o["items"].([]any)) != 0 {
		t.Errorf("%v", o)
	}
	if o := s.must(t, 200, "POST", "/v1/posps/posp-1/hsm/members/hsm1/state", `{"state":"draining","reason":"work"}`, "X-Operator", "li"); o["state"] != "draining" {
		t.Errorf("%v", o)
	}
	s.must(t, 201, "POST", "/v1/posps/posp-1/hsm/members", `{"spec":{"name":"hsm4","domain":"dev","addr":"a:1","settings":{"pin_file":"/x"}}}`)
	s.must(t, 201, "POST", "/v1/posps/posp-1/hsm/members", `{"Spec":{"name":"hsm5","domain":"dev","addr":"a:1","SETTINGS":{"pin_file":"/x"}}}`)
	for _, test := range []struct {
		method, path, body, who string
		want                    int
		text                    string
	}{
		{"POST", "/v1/posps/posp-1/hsm/members/hsm1/remove", "", "wang", 403, "not an operator"},
		{"POST", "/v1/posps/posp-1/hsm/members/none/remove", "", "li", 404, "there is no member none"},
		{"POST", "/v1/posps/none/hsm/members/hsm1/remove", "", "li", 404, "GET /v1/posps"},
		{"POST", "/v1/posps/posp-1/hsm/members/hsm1/remove", "[]", "li", 400, "wrong type"},
		{"POST", "/v1/posps/away/hsm/engine/stop", "", "li", 502, "away does not answer"},
		{"GET", "/v1/posps/away/hsm", "", "", 502, "away does not answer"},
		{"GET", "/v1/posps/posp-1/hsm/members/none", "", "", 404, "there is no member none"},
	} {
		if r := s.do(t, test.method, test.path, test.body, "X-Operator", test.who); r.status != test.want || !strings.Contains(r.body, test.text) {
			t.Errorf("%s %s: %d %s", test.method, test.path, r.status, r.body)
		}
	}
	if got, want := strings.Join(cluster.Calls(), "; "), "state hsm1 draining by li via posv (work); add hsm4 dev a:1 by dev via posv; add hsm5 dev a:1 by dev via posv"; got != want {
		t.Errorf("the cluster was told %q, want %q", got, want)
	}
	var records []string
	for _, r := range s.must(t, 200, "GET", "/v1/audit?order=newest", "")["items"].([]any) {
		r := r.(map[string]any)
		if text := fmt.Sprint(r["detail"]); strings.Contains(text, "pin_file") {
			t.Errorf("the audit shows driver settings: %s", text)
		}
		records = append([]string{fmt.Sprint(r["action"], " ", r["object"], " ", r["actor"])}, records...)
	}
	want := []string{
		"hsm.ordered posp-1/members/hsm1/state li", "hsm.done posp-1/members/hsm1/state li", "hsm.ordered posp-1/members dev", "hsm.done posp-1/members dev",
		"hsm.ordered posp-1/members dev", "hsm.done posp-1/members dev",
		"hsm.ordered posp-1/members/hsm1/remove wang", "hsm.refused posp-1/members/hsm1/remove wang",
		"hsm.ordered posp-1/members/none/remove li", "hsm.refused posp-1/members/none/remove li",
		"hsm.ordered away/engine/stop li", "hsm.refused away/engine/stop li",
	}
	if strings.Join(records, "; ") != strings.Join(want, "; ") {
		t.Errorf("audit:\n%s\nwant\n%s", strings.Join(records, "\n"), strings.Join(want, "\n"))
	}
}

// TestRelayInProduction: a name that nothing proves operates no HSM, with or without the token.
func TestRelayInProduction(t *testing.T) {
	t.Parallel()
	s, cluster := operated(t, func(c *posv.Config) {
		c.Profile, c.API.Private, c.TokenFile = service.Production, true, secretFile(t, "token", []byte("secret-token"))
	})
	for token, want := range map[string]int{"": 401, "Bearer secret-token": 403} {
		if r := s.do(t, "POST", "/v1/posps/posp-1/hsm/engine/stop", "{}", "X-Operator", "li", "Authorization", token); r.status != want {
			t.Errorf("token %q: %d %s", token, r.status, r.body)
		}
	}
	if calls := cluster.Calls(); len(calls) != 0 {
		t.Errorf("done: %q", calls)
	}
}

// TestLooksAtHSMs: where posv has a token, looks at the operation of HSMs need it as those at orders do; without one they are for whoever
// reaches the listener.
func TestLooksAtHSMs(t *testing.T) {
	t.Parallel()
	paths := []string{"/v1/posps/posp-1/hsm", "/v1/posps/posp-1/hsm/members", "/v1/posps/posp-1/hsm/history", "/v1/posps", "/v1/hsm/history", "/v1/hsm/lists?group=issuing", "/v1/orders"}
	guarded, _ := operated(t, func(c *posv.Config) { c.TokenFile = secretFile(t, "token", []byte("secret-token")) })
	open, _ := operated(t, nil)
	for _, path := range paths {
		for token, want := range map[string]int{"": 401, "Bearer other": 401, "Bearer secret-token": 200} {
			if r := guarded.do(t, "GET", path, "", "Authorization", token); r.status != want {
				t.Errorf("%s with token %q: %d %s", path, token, r.status, r.body)
			}
		}
		open.must(t, 200, "GET", path, "")
	}
	// What everybody may look at stays so.
	guarded.must(t, 200, "GET", "/v1/terminals", "")
}

// TestRelayedPagesDoNothing: a page that a service answers runs no script in the console's name, whatever the service allows it.
func TestRelayedPagesDoNothing(t *testing.T) {
	t.Parallel()
	router := chi.NewRouter()
	router.Get("/v1/hsm/drills/{id}/report.html", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", "script-src *")
		_, _ = w.Write([]byte("<script>approve()</script>"))
	})
	c := hsmopstest.Listen(t, router, "posv").Config("posv")
	s := start(t, func(cfg *posv.Config) {
		cfg.POSPs = []posv.POSPConfig{{Name: "posp-1", URL: c.URL, TLS: &service.TLSConfig{Cert: c.Cert, Key: service.SecretFile(c.Key), CA: c.CA}}}
	})
	r := s.do(t, "GET", "/v1/posps/posp-1/hsm/drills/1/report.html", "")
	if policy := r.header.Values("Content-Security-Policy"); len(policy) != 1 || !strings.Contains(policy[0], "sandbox; default-src 'none'") || strings.Contains(policy[0], "script") {
		t.Errorf("policy %q", policy)
	}
	if r.status != 200 || r.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v", r.status, r.header)
	}
}

// TestHSMHistory: the history of all instances is read from the database.
func TestHSMHistory(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	if _, err := s.db.Pool(t, migrations.RolePOSP).Exec(t.Context(),
		`INSERT INTO hsm_switches (hsm_group, instance, run, seq, at, what, member, by_whom) SELECT 'online', 'posp-' || n, 'r', 1, now(), 'state', 'hsm1', 'li' FROM generate_series(1, 2) n`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Pool(t, migrations.RoleKeys).Exec(t.Context(),
		`INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance) VALUES ('issuing', 1, '[{"name":"hsm1"}]', 'li', 'keys')`); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{"": 2, "?instance=posp-2": 1, "?group=issuing": 0, "?member=hsm1&limit=1": 1} {
		if o := s.must(t, 200, "GET", "/v1/hsm/history"+query, ""); len(o["items"].([]any)) != want {
			t.Errorf("%s: %v", query, o)
		}
	}
	if o := s.must(t, 200, "GET", "/v1/hsm/lists?group=issuing", ""); len(o["items"].([]any)) != 1 {
		t.Errorf("%v", o)
	}
	for _, bad := range []string{"history?since=yesterday", "history?member=%00", "history?instance=%ff", "lists?group=%00", "lists?group=all"} {
		s.must(t, 400, "GET", "/v1/hsm/"+bad, "")
	}
}

func TestPOSPsConfig(t *testing.T) {
	t.Parallel()
	tls := &service.TLSConfig{Cert: "c", Key: "k", CA: "a"}
	for name, list := range map[string][]posv.POSPConfig{
		"name of its own": {{Name: "a", URL: "https://a:1", TLS: tls}, {Name: "a", URL: "https://b:1", TLS: tls}}, "begins with https": {{Name: "a", URL: "http://a:1", TLS: tls}},
		"and tls": {{Name: "a", URL: "https://a:1"}}, "letters, digits": {{Name: "a/b", URL: "https://a:1", TLS: tls}},
	} {
		c := posv.DefaultConfig()
		c.POSPs = list
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
