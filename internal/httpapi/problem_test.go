package httpapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/keys/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// syncBuffer is a log sink for concurrent writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// document is the shortest that is taken.
const document = `{"openapi":"3.1.1","info":{"title":"t","version":"1"},"paths":{"/":{}}}`

func router(t testing.TB, log *slog.Logger) chi.Router {
	t.Helper()
	r, err := httpapi.NewRouter(log, []byte(document), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func do(t *testing.T, h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, detail string) map[string]any {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("no JSON: %s", w.Body)
	}
	if w.Code != status || p["status"] != float64(status) || p["title"] != http.StatusText(status) || p["type"] == "" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("want a problem document with %d, got %d %v", status, w.Code, p)
	}
	if d, _ := p["detail"].(string); !strings.Contains(d, detail) {
		t.Fatalf("detail %q, want %q in it", d, detail)
	}
	return p
}

func TestProblems(t *testing.T) {
	t.Parallel()
	var out syncBuffer
	r := router(t, slog.New(slog.NewTextHandler(&out, nil)))
	r.Method("GET", "/gone/{pan}", httpapi.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return &httpapi.Error{Status: 410, Detail: "the card is retired", NextStep: "issue a new one", Cause: errors.New("cause for the log")}
	}))
	r.Method("GET", "/broken", httpapi.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return errors.New("internal matter") }))
	r.Get("/panics", func(http.ResponseWriter, *http.Request) { panic("value of the panic") })
	r.Get("/json", func(w http.ResponseWriter, q *http.Request) { httpapi.WriteJSON(w, q, 201, map[string]int{"a": 1}) })
	r.Get("/nojson", func(w http.ResponseWriter, q *http.Request) { httpapi.WriteJSON(w, q, 200, func() {}) })

	p := wantProblem(t, do(t, r, "GET", "/gone/6222020000000000018", "", "X-Request-Id", "abc-1"), 410, "the card is retired")
	if p["next_step"] != "issue a new one" || p["instance"] != "urn:request:abc-1" {
		t.Fatalf("%v", p)
	}
	wantProblem(t, do(t, r, "GET", "/broken", ""), 500, "could not")
	wantProblem(t, do(t, r, "GET", "/panics", ""), 500, "could not")
	wantProblem(t, do(t, r, "GET", "/nojson", ""), 500, "could not")
	wantProblem(t, do(t, r, "GET", "/nowhere", ""), 404, "nothing at this path")
	if w := do(t, r, "POST", "/broken", ""); w.Header().Get("Allow") != "GET" {
		t.Fatalf("Allow %q", w.Header().Get("Allow"))
	} else {
		wantProblem(t, w, 405, "does not know the method")
	}
	if w := do(t, r, "GET", "/json", "", "X-Request-Id", "bad id\n"); w.Code != 201 || w.Body.String() != "{\"a\":1}\n" || len(w.Header().Get("X-Request-Id")) != 26 {
		t.Fatalf("%d %s %v", w.Code, w.Body, w.Header())
	}
	log := out.String()
	for _, want := range []string{"cause for the log", "internal matter", "route=/gone/{pan}", "id=abc-1", "status=410", "status=500", "problem_test.go"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is missing in the log", want)
		}
	}
	for _, leak := range []string{"6222020000000000018", "value of the panic"} {
		if strings.Contains(log, leak) {
			t.Errorf("the log shows %q", leak)
		}
	}
}

func TestRecoverPassesAborts(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for name, h := range map[string]http.HandlerFunc{
		"abort":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half answer": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("half")); panic("late") },
	} {
		func() {
			defer func() {
				v := recover()
				if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					t.Errorf("%s: recovered %v", name, v)
				}
			}()
			do(t, httpapi.Recover(log)(h), "GET", "/", "")
		}()
	}
}

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	type card struct {
		PSAM  string   `json:"psam"`
		Count int8     `json:"count"`
		On    bool     `json:"on"`
		Tags  []string `json:"tags"`
	}
	const hidden = "0123456789ABCDEF"
	h := httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		var c card
		if err := httpapi.DecodeJSON(w, r, &c); err != nil {
			return err
		}
		httpapi.WriteJSON(w, r, 200, c)
		return nil
	})
	cases := []struct {
		name, media, body string
		status            int
		detail            string
	}{
		{"good", "application/json; charset=utf-8", `{"psam":"1"} `, 200, ""},
		{"no media type", "", `{}`, 415, "must be JSON"},
		{"form", "application/x-www-form-urlencoded", `{}`, 415, "must be JSON"},
		{"unknown member", "application/json", `{"pasm":"` + hidden + `"}`, 400, `unknown member "pasm"`},
		{"wrong type", "application/json", `{"count":"` + hidden + `"}`, 400, "count has the wrong type at byte"},
		{"out of range", "application/json", `{"count":128}`, 400, "whole number in range"},
		{"array wanted", "application/json", `{"tags":{}}`, 400, "want an array"},
		{"not an object", "application/json", `[]`, 400, "the document has the wrong type"},
		{"broken", "application/json", `{"psam":` + hidden + `}`, 400, "not JSON at byte"},
		{"cut", "application/json", `{"psam":"1`, 400, "ends in the middle"},
		{"empty", "application/json", ``, 400, "empty"},
		{"two documents", "application/json", `{}{}`, 400, "goes on"},
		{"trailing bytes", "application/json", `{}x`, 400, "goes on"},
		{"too long", "application/json", `{"psam":"` + strings.Repeat("x", httpapi.MaxBody) + `"}`, 413, "longer than 1048576"},
		{"too long after the document", "application/json", `{}` + strings.Repeat(" ", httpapi.MaxBody), 413, "longer than 1048576"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := do(t, h, "POST", "/", tc.body, "Content-Type", tc.media)
			if tc.status == 200 {
				if w.Code != 200 {
					t.Fatalf("%d %s", w.Code, w.Body)
				}
				return
			}
			wantProblem(t, w, tc.status, tc.detail)
			if strings.Contains(w.Body.String(), hidden) {
				t.Fatalf("a value is shown: %s", w.Body)
			}
		})
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add(`{"psam":"1","count":2}`)
	f.Add(`{"psam":1}`)
	f.Add(`[{}]`)
	f.Add(`{"x":`)
	f.Fuzz(func(t *testing.T, body string) {
		var c struct {
			PSAM  string `json:"psam"`
			Count int8   `json:"count"`
		}
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if err := httpapi.DecodeJSON(httptest.NewRecorder(), r, &c); err != nil {
			if e, ok := errors.AsType[*httpapi.Error](err); !ok || e.Status < 400 || e.Status > 415 {
				t.Fatalf("%v", err)
			}
		} else if !json.Valid([]byte(body)) {
			t.Fatal("accepted what is not JSON")
		}
	})
}

func TestBearer(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	guarded, closed := httpapi.Bearer(secret.NewString("t0ken"))(ok), httpapi.Bearer(secret.Bytes{})(ok)
	for header, want := range map[string]int{"Bearer t0ken": 204, "bearer t0ken": 204, "Bearer t0ke": 401, "Bearer ": 401, "Basic t0ken": 401, "": 401, "Bearer t0ken ": 401} {
		if w := do(t, guarded, "GET", "/", "", "Authorization", header); w.Code != want {
			t.Errorf("%q: %d, want %d", header, w.Code, want)
		}
		if w := do(t, closed, "GET", "/", "", "Authorization", header); w.Code != 401 {
			t.Errorf("%q opens a server without a token", header)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	doc := `{"openapi":"3.1.0","info":{"title":"t","version":"1"},"paths":{"/a":{"get":{}}}}`
	h, err := httpapi.NewRouter(slog.New(slog.DiscardHandler), []byte(doc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if w := do(t, h, "GET", "/openapi.json", ""); w.Body.String() != doc || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%v", w)
	}
	for _, bad := range []string{"", "openapi: 3.1.0", `{"openapi":"3.0.3","info":{"title":"t","version":"1"},"paths":{"/a":{}}}`, `{"openapi":"3.1.0","paths":{"/a":{}}}`, `{"openapi":"3.1.0","info":{"title":"t","version":"1"}}`} {
		if _, err := httpapi.NewRouter(slog.New(slog.DiscardHandler), []byte(bad), nil); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}
