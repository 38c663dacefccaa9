package httpapi_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/keys/secret"
)

// TestCall: headers and body arrive, answers are decoded, and each way of failing can be told from the others.
func TestCall(t *testing.T) {
	t.Parallel()
	var head http.Header
	var body []byte
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		head = r.Header
		body, _ = io.ReadAll(r.Body)
		httpapi.WriteJSON(w, r, http.StatusCreated, map[string]int{"n": 7})
	})
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, r *http.Request) {
		httpapi.WriteError(w, r, &httpapi.Error{Status: http.StatusConflict, Detail: "taken", NextStep: "choose another"})
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	mux.HandleFunc("/proxy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	mux.HandleFunc("/breaks", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "{")
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	call := func(path string) error {
		var out struct{ N int }
		err := httpapi.Call{
			Method: http.MethodPost, URL: server.URL + path, IdempotencyKey: "k", Operator: "li", Token: secret.NewString("t0ken"), Body: []int{1},
		}.Do(t.Context(), server.Client(), &out)
		if err == nil && out.N != 7 {
			return fmt.Errorf("decoded %+v", out)
		}
		return err
	}

	if err := call("/echo"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Idempotency-Key": "k", "X-Operator": "li", "Authorization": "Bearer t0ken", "Content-Type": "application/json"} {
		if head.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, head.Get(name), want)
		}
	}
	if string(body) != "[1]" {
		t.Errorf("body %q", body)
	}
	if err := (httpapi.Call{Method: http.MethodGet, URL: server.URL + "/echo"}).Do(t.Context(), server.Client(), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Idempotency-Key", "X-Operator", "Authorization", "Content-Type"} {
		if head.Get(name) != "" {
			t.Errorf("%s was sent without being asked for", name)
		}
	}

	var refusal *httpapi.Refusal
	if err := call("/refuse"); !errors.As(err, &refusal) || *refusal != (httpapi.Refusal{Status: 409, Detail: "taken", NextStep: "choose another"}) ||
		err.Error() != "409 Conflict: taken; choose another" {
		t.Errorf("refused: %v", err)
	}
	if err := call("/proxy"); !errors.As(err, &refusal) || *refusal != (httpapi.Refusal{Status: 502}) {
		t.Errorf("refused by a stranger: %v", err)
	}
	if err := call("/page"); !errors.Is(err, httpapi.ErrNotOurs) {
		t.Errorf("a web page: %v", err)
	}
	if err := call("/breaks"); !errors.Is(err, httpapi.ErrNoAnswer) {
		t.Errorf("half an answer: %v", err)
	}
	if err := (httpapi.Call{Method: http.MethodGet, URL: "http://127.0.0.1:1"}).Do(t.Context(), server.Client(), nil); !errors.Is(err, httpapi.ErrNoAnswer) {
		t.Errorf("nobody: %v", err)
	}
	for _, bad := range []httpapi.Call{{Method: http.MethodGet, URL: "http://[::1"}, {Method: http.MethodPost, URL: server.URL, Body: func() {}}} {
		if err := bad.Do(t.Context(), server.Client(), nil); err == nil || errors.Is(err, httpapi.ErrNoAnswer) || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("a call that cannot be made: %v", err)
		}
	}
}
