package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/keyward/keyward/internal/service"
)

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

func TestReady(t *testing.T) {
	t.Parallel()
	var r service.Ready
	down := errors.New("database away, card " + pan)
	r.Add("hsm", func(context.Context) error { return nil })
	r.Add("database", func(context.Context) error { return down })
	h := service.AdminHandler(&r, service.NewRegistry(), false)
	w := get(t, h, "/readyz")
	var body struct {
		Ready  bool
		Checks []struct {
			Name, Error string
			OK          bool
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	if w.Code != 503 || body.Ready || len(body.Checks) != 2 || !body.Checks[0].OK || body.Checks[1].Name != "database" || !strings.Contains(body.Checks[1].Error, "database away") || strings.Contains(w.Body.String(), pan) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	down = nil
	if w := get(t, h, "/readyz"); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	r.Drain()
	if w := get(t, h, "/readyz"); w.Code != 503 || !strings.Contains(w.Body.String(), "stopping") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var broken service.Ready
	broken.Add("panics", func(context.Context) error { panic(pan) })
	if w := get(t, &broken, "/readyz"); w.Code != 503 || strings.Contains(w.Body.String(), pan) || strings.Contains(w.Body.String(), ".go") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var slow service.Ready
	release := make(chan struct{})
	defer close(release)
	slow.Add("hangs", func(context.Context) error { <-release; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec := httptest.NewRecorder()
	slow.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
	if rec.Code != 503 || !strings.Contains(rec.Body.String(), "no answer in time") {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
}

func TestAdminHandler(t *testing.T) {
	t.Parallel()
	for _, profiling := range []bool{false, true} {
		h := service.AdminHandler(&service.Ready{}, service.NewRegistry(), profiling)
		if w := get(t, h, "/metrics"); w.Code != 200 || !strings.Contains(w.Body.String(), "go_goroutines") {
			t.Fatalf("%d", w.Code)
		}
		if w := get(t, h, "/livez"); w.Code != 200 || !strings.Contains(w.Body.String(), "go1.") {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		want := 404
		if profiling {
			want = 200
		}
		if w := get(t, h, "/debug/pprof/"); w.Code != want {
			t.Fatalf("profiling %v: %d", profiling, w.Code)
		}
	}
}

func TestDisableCoreDumps(t *testing.T) {
	t.Parallel()
	if err := service.DisableCoreDumps(); err != nil {
		t.Fatal(err)
	}
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &l); err != nil || l.Cur != 0 || l.Max != 0 {
		t.Fatalf("%+v, %v", l, err)
	}
}
