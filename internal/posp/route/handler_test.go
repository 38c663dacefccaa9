package route_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/httpapi/httpapitest"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/migrations"
)

// api is the interface over mutual TLS; li.na is an operator, issuer another service.
type api struct {
	t      *testing.T
	book   *route.Book
	router chi.Router
	people *hsmopstest.Listener
	log    bytes.Buffer
}

const base = `{"openapi":"3.1.0","info":{"title":"t","version":"1"},"paths":{"/openapi.json":{"get":{}}},"components":{"schemas":{"Problem":{}}}}`

func serve(t *testing.T) *api {
	t.Helper()
	a := &api{t: t}
	doc, err := route.Document([]byte(base))
	if err != nil {
		t.Fatal(err)
	}
	if a.router, err = httpapi.NewRouter(slog.New(slog.DiscardHandler), doc, nil); err != nil {
		t.Fatal(err)
	}
	h := route.NewHandler([]string{"li.na"}, slog.New(slog.NewTextHandler(&a.log, nil)))
	h.Mount(a.router)
	a.people = hsmopstest.Listen(t, a.router, "li.na", "issuer")
	var refused *httpapi.Refusal
	if err := a.call("li.na", http.MethodGet, "", nil, nil); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("before the start: %v", err)
	}
	a.book = open(t, pgtest.New(t).Pool(t, migrations.RolePOSP), "posp-1", hosts...)
	h.Serve(a.book, time.FixedZone("CST", 8*3600), func(host string) error {
		if host == "bank" {
			return errors.New("not connected")
		}
		return nil
	})
	return a
}

func (a *api) call(who, method, path string, in, out any) error {
	a.t.Helper()
	transport := &http.Transport{TLSClientConfig: a.people.TLS(a.t, who)}
	defer transport.CloseIdleConnections()
	return httpapi.Call{Method: method, URL: a.people.URL + route.Prefix + path, Body: in}.Do(a.t.Context(), &http.Client{Transport: transport}, out)
}

func TestRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := route.Document([]byte(base))
	if err != nil {
		t.Fatal(err)
	}
	httpapitest.CheckRoutes(t, serve(t).router, doc)
	if _, err := route.Document([]byte(`{"paths":{}}`)); err == nil {
		t.Error("a document without schemas was taken")
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	a := serve(t)
	var v route.Version
	set := map[string]any{"document": toOther, "reason": "trial", "base": 0}
	for who, path := range map[string]string{"issuer": "", "issuer ": "/undo"} {
		var refused *httpapi.Refusal
		if err := a.call(strings.TrimSpace(who), http.MethodPost, path, set, nil); !errors.As(err, &refused) || refused.Status != http.StatusForbidden || !strings.Contains(refused.NextStep, "routing.operators") {
			t.Errorf("%s may change: %v", who, err)
		}
	}
	if a.book.Table().Version != 0 {
		t.Fatal("changed")
	}
	if err := a.call("li.na", http.MethodPost, "", set, &v); err != nil || v.Version != 1 || v.SavedBy != "li.na" || v.Reason != "trial" {
		t.Fatalf("%+v, %v", v, err)
	}
	if err := a.call("li.na", http.MethodPost, "/undo", struct{}{}, &v); err != nil || v.Version != 2 || *v.Restores != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	if err := a.call("li.na", http.MethodPost, "/undo", map[string]any{"to": 1, "base": 2}, &v); err != nil || v.Version != 3 || *v.Restores != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	for want, c := range map[string]struct {
		path string
		in   any
	}{
		"409 version 3 of the routing was saved by li.na": {"", set},
		"422 line 3: host \"bonk\" is not configured":     {"", map[string]any{"document": strings.Replace(toOther, "other", "bonk", 1)}},
		"422 base is below zero":                          {"", map[string]any{"document": "", "base": -1}},
		"422 the reason must be one line":                 {"", map[string]any{"document": "", "reason": "a\nb"}},
		"422 to is below zero":                            {"/undo", map[string]any{"to": -1}},
		"422 version 8 of the routing does not exist":     {"/undo", map[string]any{"to": 8}},
		"400 ": {"", map[string]any{"rules": 1}},
	} {
		var refused *httpapi.Refusal
		if err := a.call("li.na", http.MethodPost, c.path, c.in, nil); !errors.As(err, &refused) || !strings.HasPrefix(fmt.Sprint(refused.Status, " ", refused.Detail), want) {
			t.Errorf("%v: %v, want %s", c.in, err, want)
		}
	}
	var list route.List
	if err := a.call("issuer", http.MethodGet, "/versions?limit=2", nil, &list); err != nil || len(list.Items) != 2 || list.Items[0].Version != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := a.call("issuer", http.MethodGet, "/versions?limit=0", nil, &list); err == nil {
		t.Error("a page of nothing")
	}
	var s route.Status
	if err := a.call("issuer", http.MethodGet, "", nil, &s); err != nil || s.Version.Version != 3 || s.Version.Document != toOther {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTester(t *testing.T) {
	t.Parallel()
	a := serve(t)
	var v route.Verdict
	if err := a.call("issuer", http.MethodPost, "/test", map[string]any{"card": "6222020000000001"}, &v); err != nil || v.Rule != "" || v.Host != "other" || v.NotReady["bank"] != "not connected" {
		t.Errorf("%+v, %v", v, err)
	}
	// Rules that are not saved, a time in another zone: 23:30 UTC is 07:30 of the next day.
	document := "rules:\n- name: night\n  hours: 22:00-06:00\n  hosts: [other]\n- name: dawn\n  hours: 07:00-08:00\n  cards: [6222]\n  hosts: [bank]\n"
	question := map[string]any{"card": "6222020000000001", "kind": "refund", "at": "2026-11-23T23:30:00Z", "document": document}
	if err := a.call("issuer", http.MethodPost, "/test", question, &v); err != nil || v.Rule != "dawn" || v.Line != 5 || v.Host != "" || len(v.Asked) != 2 || !strings.Contains(v.Asked[0].Why, "time 07:30 is not time 22:00-06:00") {
		t.Errorf("%+v, %v", v, err)
	}
	if strings.Contains(fmt.Sprintf("%+v", v), "6222020000000001") || a.book.Table().Version != 0 {
		t.Errorf("%+v", v)
	}
	for _, bad := range []map[string]any{{"card": "x"}, {"kind": "buy"}, {"amount": -1}, {"document": "rules: 7"}} {
		if err := a.call("issuer", http.MethodPost, "/test", bad, nil); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// TestPlainListener: where TLS proves no name nothing can be changed, whatever a header says.
func TestPlainListener(t *testing.T) {
	t.Parallel()
	a := serve(t)
	server, err := httpapi.NewServer(httpapi.ServerConfig{Name: "plain", Addr: "127.0.0.1:0", Handler: a.router, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = server.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop(t.Context()) }()
	call := httpapi.Call{Method: http.MethodPost, URL: "http://" + server.Addr().String() + route.Prefix, Body: map[string]any{"document": toOther}}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var refused *httpapi.Refusal
	if err := call.Do(t.Context(), client, nil); !errors.As(err, &refused) || refused.Status != http.StatusForbidden || !strings.Contains(refused.Detail, "proves nobody's name") {
		t.Error(err)
	}
	call = httpapi.Call{Method: http.MethodGet, URL: call.URL}
	if err := call.Do(t.Context(), client, &route.Status{}); err != nil {
		t.Error(err)
	}
}
