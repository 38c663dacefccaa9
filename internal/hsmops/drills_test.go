package hsmops_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/hsmclient/drill"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
)

// drillCluster has two members; a fault takes the member down at once, its end brings it back.
type drillCluster struct {
	mu     sync.Mutex
	states map[string]member.State
}

func (c *drillCluster) Engine() member.Engine {
	return member.Engine{Name: "online", Instance: "posp-1"}
}
func (c *drillCluster) History(int) []member.Switch                { return nil }
func (c *drillCluster) Observe(func(member.Outcome)) (stop func()) { return func() {} }

func (c *drillCluster) Members() (list []member.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.states)) {
		list = append(list, member.Status{Spec: member.Spec{Name: name, Domain: "live"}, State: c.states[name], Since: time.Now()})
	}
	return list
}

func (c *drillCluster) Member(name string) (member.Status, error) {
	for _, s := range c.Members() {
		if s.Spec.Name == name {
			return s, nil
		}
	}
	return member.Status{}, member.Refuse(member.NotFound, "list the members", "there is no member %q", name)
}

func (c *drillCluster) set(name string, to member.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states[name] = to
	return nil
}

func (c *drillCluster) Inject(_ member.Act, name string, _ member.Fault) error {
	return c.set(name, member.Down)
}
func (c *drillCluster) Clear(_ member.Act, name string) error { return c.set(name, member.Standby) }
func (c *drillCluster) SetState(_ context.Context, _ member.Act, name string, to member.State) error {
	return c.set(name, to)
}

// drillServer serves the routes of drills without the guard, which has its own tests.
func drillServer(t *testing.T, c *drillCluster) http.Handler {
	t.Helper()
	runner, err := drill.New(drill.Config{Cluster: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runner.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	router := chi.NewRouter()
	hsmops.DrillRoutes(runner)(hsmops.Routes{
		Read: func(path string, h httpapi.HandlerFunc) {
			router.Method(http.MethodGet, hsmops.Prefix+path, plainRefusals(h))
		},
		Write: func(path string, h httpapi.HandlerFunc) {
			router.Method(http.MethodPost, hsmops.Prefix+path, plainRefusals(h))
		},
	})
	return router
}

func plainRefusals(h httpapi.HandlerFunc) httpapi.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		if member.IsRefusal(err, member.NotFound) || member.IsRefusal(err, member.Conflict) || member.IsRefusal(err, member.Unsafe) {
			return &httpapi.Error{Status: http.StatusConflict, Detail: err.Error()}
		}
		return err
	}
}

// call makes a request and decodes a JSON answer of the expected status.
func call(t *testing.T, h http.Handler, method, path, body string, want int, into any) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, hsmops.Prefix+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != want {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func TestDrillRoutes(t *testing.T) {
	t.Parallel()
	h := drillServer(t, &drillCluster{states: map[string]member.State{"a": member.Working, "b": member.Working, "c": member.Working}})
	const order = `{"member":"a","kind":"refuse","before":"1s","during":"5m","reason":"test"}`
	var p drill.Progress
	call(t, h, "POST", "/drills", order, http.StatusCreated, &p)
	if p.Member != "a" || p.Phase != "before" || p.Planned.Std() != 5*time.Minute+6*time.Second {
		t.Errorf("%+v", p)
	}
	call(t, h, "POST", "/drills", order, http.StatusConflict, nil)
	call(t, h, "GET", "/drills/"+p.ID+"/report.html", "", http.StatusConflict, nil)
	for deadline := time.Now().Add(30 * time.Second); p.Phase != "during"; {
		if time.Now().After(deadline) {
			t.Fatalf("the fault does not begin: %+v", p)
		}
		time.Sleep(20 * time.Millisecond) // polling, as an operator's console does
		call(t, h, "GET", "/drills/"+p.ID, "", http.StatusOK, &p)
	}
	call(t, h, "POST", "/drills/"+p.ID+"/stop", `{"reason":"enough"}`, http.StatusOK, &p)
	for deadline := time.Now().Add(30 * time.Second); p.Phase != "over"; {
		if time.Now().After(deadline) {
			t.Fatalf("the drill does not end: %+v", p)
		}
		time.Sleep(20 * time.Millisecond) // polling
		call(t, h, "GET", "/drills/"+p.ID, "", http.StatusOK, &p)
	}
	var rep drill.Report
	call(t, h, "GET", "/drills/"+p.ID+"/report.json", "", http.StatusOK, &rep)
	if rep.Verdict != drill.Incomplete || rep.Reason != "test" || !strings.Contains(rep.Cause, "enough") {
		t.Errorf("%s: %s", rep.Verdict, rep.Cause)
	}
	page := call(t, h, "GET", "/drills/"+p.ID+"/report.html", "", http.StatusOK, nil)
	if policy := page.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || !strings.HasPrefix(page.Body.String(), "<!DOCTYPE html>") {
		t.Errorf("policy %q, page %.40s", policy, page.Body)
	}
	var list hsmops.Page[drill.Progress]
	call(t, h, "GET", "/drills", "", http.StatusOK, &list)
	if len(list.Items) != 1 || list.Items[0].Verdict != drill.Incomplete {
		t.Errorf("%+v", list)
	}
	call(t, h, "GET", "/drills/20260101-000000-0000", "", http.StatusConflict, nil)
	call(t, h, "POST", "/drills", `{"member":"a","kind":"refuse","unheard":1}`, http.StatusBadRequest, nil)
}

// Every route is described, and nothing else; what is referred to is there.
func TestDrillDocument(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(hsmops.DrillOpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	note := func(method string) func(string, httpapi.HandlerFunc) {
		return func(path string, _ httpapi.HandlerFunc) {
			if key := method + " " + hsmops.Prefix + path; !described[key] {
				t.Errorf("%s is not described", key)
			} else {
				delete(described, key)
			}
		}
	}
	hsmops.DrillRoutes(nil)(hsmops.Routes{Read: note("GET"), Write: note("POST")})
	for key := range described {
		t.Errorf("%s is described, but not served", key)
	}
	for _, m := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllSubmatch(hsmops.DrillOpenAPI, -1) {
		if doc.Components.Schemas[string(m[1])] == nil {
			t.Errorf("schema %s is missing", m[1])
		}
	}
}
