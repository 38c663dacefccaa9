// Package httpapitest holds what the tests of every HTTP interface need: the check that its routes and its OpenAPI document agree, and
// certificates.
package httpapitest

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
)

// methods are the members of a Path Item Object that are operations (OpenAPI 3.1.1 §4.8.9).
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

// parameter is a path parameter of chi with a pattern: {id:[0-9]+}.
var parameter = regexp.MustCompile(`\{([^:{}]+):(?:[^{}]|\{[^{}]*\})*\}`)

// CheckRoutes fails the test for each route of the router that is not an operation of the OpenAPI document (JSON), and the other way
// round. Parameter names count. except names routes that are left out on purpose, as "GET /readyz" or, ending in "*", as a
// prefix: "GET /console/*".
func CheckRoutes(t testing.TB, router chi.Routes, doc []byte, except ...string) {
	t.Helper()
	served, err := routes(router)
	if err != nil {
		t.Fatalf("walk the router: %v", err)
	}
	documented, err := operations(doc)
	if err != nil {
		t.Fatalf("read the OpenAPI document: %v", err)
	}
	if len(served) == 0 || len(documented) == 0 {
		t.Fatalf("%d routes and %d documented operations: nothing to compare", len(served), len(documented))
	}
	for _, r := range served {
		if !slices.Contains(documented, r) && !excepted(r, except) {
			t.Errorf("route %s is not in the OpenAPI document", r)
		}
	}
	for _, o := range documented {
		if !slices.Contains(served, o) {
			t.Errorf("the OpenAPI document has %s, but there is no such route", o)
		}
	}
}

// routes lists what the router serves, as "GET /cards/{id}".
func routes(router chi.Routes) ([]string, error) {
	var out []string
	err := chi.Walk(router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		route = strings.ReplaceAll(parameter.ReplaceAllString(route, "{$1}"), "/*/", "/")
		if len(route) > 1 {
			route = strings.TrimSuffix(route, "/")
		}
		if name := method + " " + route; !slices.Contains(out, name) {
			out = append(out, name)
		}
		return nil
	})
	return out, err
}

// operations lists what the document describes, in the same form.
func operations(doc []byte) ([]string, error) {
	var d struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		return nil, err
	}
	var out []string
	for path, item := range d.Paths {
		for _, m := range methods {
			if _, ok := item[m]; ok {
				out = append(out, strings.ToUpper(m)+" "+path)
			}
		}
	}
	return out, nil
}

func excepted(route string, except []string) bool {
	return slices.ContainsFunc(except, func(e string) bool {
		prefix, isPrefix := strings.CutSuffix(e, "*")
		return route == e || (isPrefix && strings.HasPrefix(route, prefix))
	})
}
