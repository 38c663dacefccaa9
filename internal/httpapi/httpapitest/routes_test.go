package httpapitest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
)

// recording collects failures instead of failing.
type recording struct {
	testing.TB
	errors []string
}

func (r *recording) Helper() {}
func (r *recording) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}
func (r *recording) Fatalf(format string, args ...any) { r.Errorf(format, args...) }

func TestCheckRoutes(t *testing.T) {
	t.Parallel()
	h := func(http.ResponseWriter, *http.Request) {}
	r := chi.NewRouter()
	r.Get("/cards", h)
	r.Get("/readyz", h)
	r.Get("/console/a", h)
	r.Route("/cards/{psam:[0-9]{20}}", func(r chi.Router) {
		r.Get("/", h)
		r.With(func(next http.Handler) http.Handler { return next }).Post("/issue", h)
	})
	sub := chi.NewRouter()
	sub.Get("/x", h)
	r.Mount("/sub", sub)
	good := `{"paths":{"/cards":{"get":{}},"/cards/{psam}":{"get":{},"summary":"s"},"/cards/{psam}/issue":{"post":{}},"/sub/x":{"get":{}}}}`
	except := []string{"GET /readyz", "GET /console/*"}
	cases := []struct {
		name, doc string
		except    []string
		want      []string
	}{
		{"agree", good, except, nil},
		{"not documented", good, except[:1], []string{"route GET /console/a is not"}},
		{"no such route", strings.Replace(good, `"/sub/x"`, `"/sub/y"`, 1), except, []string{"route GET /sub/x is not", "GET /sub/y, but there is no"}},
		{"other method", strings.Replace(good, `"post"`, `"put"`, 1), except, []string{"route POST /cards/{psam}/issue is not", "PUT /cards/{psam}/issue, but"}},
		{"other parameter", strings.ReplaceAll(good, `{psam}":{"get"`, `{id}":{"get"`), except, []string{"route GET /cards/{psam} is not", "GET /cards/{id}, but"}},
		{"nothing documented", `{"paths":{}}`, except, []string{"nothing to compare"}},
		{"no JSON", ``, except, []string{"read the OpenAPI document"}},
	}
	for _, tc := range cases {
		rec := &recording{TB: t}
		CheckRoutes(rec, r, []byte(tc.doc), tc.except...)
		all := strings.Join(rec.errors, "\n")
		for _, w := range tc.want {
			if !strings.Contains(all, w) {
				t.Errorf("%s: %q is missing in %q", tc.name, w, all)
			}
		}
		if len(tc.want) == 0 && all != "" {
			t.Errorf("%s: %s", tc.name, all)
		}
	}
}
