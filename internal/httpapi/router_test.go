package httpapi_test

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/keyward/keyward/internal/httpapi"
)

// TestNewRouter: every interface has its document and, where asked for, the paths of operators; a middleware more runs on all of them.
func TestNewRouter(t *testing.T) {
	t.Parallel()
	admin := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	mark := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Mark", "1")
			next.ServeHTTP(w, r)
		})
	}
	log := slog.New(slog.DiscardHandler)
	with, err := httpapi.NewRouter(log, []byte(document), admin, mark)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/openapi.json": http.StatusOK, "/livez": http.StatusAccepted, "/readyz": http.StatusAccepted, "/metrics": http.StatusAccepted, "/else": http.StatusNotFound,
	} {
		if w := do(t, with, http.MethodGet, path, ""); w.Code != want || w.Header().Get("X-Mark") != "1" {
			t.Errorf("GET %s: %d %v, want %d", path, w.Code, w.Header(), want)
		}
	}
	without, err := httpapi.NewRouter(log, []byte(document), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, do(t, without, http.MethodGet, "/readyz", ""), http.StatusNotFound, "")
	wantProblem(t, do(t, without, http.MethodPost, "/openapi.json", ""), http.StatusMethodNotAllowed, "")
	if _, err := httpapi.NewRouter(log, nil, admin); err == nil {
		t.Error("made a router without a document")
	}
}
