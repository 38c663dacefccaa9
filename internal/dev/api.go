package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/dev/pki"
	"github.com/keyward/keyward/internal/httpapi"
)

const (
	// callTimeout bounds one request to a service or simulator: a purchase waits up to 60 s for its answer.
	callTimeout = 70 * time.Second
	// maxAnswer bounds what is read of an answer: the longest are lists of some thousand terminals.
	maxAnswer = 8 << 20
	// idleConnections are kept for the parallel requests of a first run.
	idleConnections = 16
)

// API is a client of one HTTP interface of the system.
type API struct {
	base   string
	actor  string // for X-Operator: who acts, on plain listeners
	client *http.Client
}

// newAPI makes a client for the interface at addr.
func newAPI(addr string) *API {
	return &API{base: "http://" + addr, client: &http.Client{
		Timeout: callTimeout, Transport: &http.Transport{MaxIdleConns: idleConnections, MaxIdleConnsPerHost: idleConnections},
	}}
}

// As is the same client for another person.
func (a *API) As(actor string) *API {
	b := *a
	b.actor = actor
	return &b
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Method, Path string
	Status       int
	Text         string // what the service says, with its next step
}

// Error names the request and what the service says.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d: %s", e.Method, e.Path, e.Status, e.Text)
}

// Call sends in as JSON (nil: no body) and decodes the answer into out (nil: dropped). key is the Idempotency-Key, "" for none.
// An answer other than 2xx is a *StatusError.
func (a *API) Call(ctx context.Context, method, path, key string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: encode the request: %w", method, path, err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	if a.actor != "" {
		req.Header.Set("X-Operator", a.actor)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return err // names method and address
	}
	defer func() { _ = res.Body.Close() }() // only read
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if res.StatusCode/100 != 2 {
		return &StatusError{Method: method, Path: path, Status: res.StatusCode, Text: refusal(raw)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s %s: decode the answer: %w", method, path, err)
	}
	return nil
}

// refusal is the text of a problem document (RFC 9457) or of the simulators' {"error": …}.
func refusal(raw []byte) string {
	var problem struct {
		Title    string `json:"title"`
		Detail   string `json:"detail"`
		NextStep string `json:"next_step"`
		Error    string `json:"error"`
		Checks   []struct {
			Name  string `json:"name"`
			OK    bool   `json:"ok"`
			Error string `json:"error"`
		} `json:"checks"` // of /readyz
	}
	if json.Unmarshal(raw, &problem) != nil {
		return strings.TrimSpace(string(raw[:min(len(raw), 300)]))
	}
	var parts []string
	for _, part := range []string{problem.Title, problem.Detail, problem.Error, problem.NextStep} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	for _, check := range problem.Checks {
		if !check.OK {
			parts = append(parts, check.Name+": "+check.Error)
		}
	}
	return strings.Join(parts, ": ")
}

// readyOverHTTP asks GET /readyz of a plain listener.
func readyOverHTTP(addr string) func(context.Context) error { return readiness(newAPI(addr)) }

// readyOverTLS asks the key service, as one of its clients.
func readyOverTLS(addr string, files pki.Pair, ca string) (func(context.Context) error, error) {
	config, err := httpapi.ClientTLS(files.Cert, files.Key, ca)
	if err != nil {
		return nil, err
	}
	return readiness(newTLSAPI(addr, config)), nil
}

func newTLSAPI(addr string, config *tls.Config) *API {
	return &API{base: "https://" + addr, client: &http.Client{
		Timeout: callTimeout, Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 1},
	}}
}

// readiness asks and, when the answer is no, says which checks failed.
func readiness(api *API) func(context.Context) error {
	return func(ctx context.Context) error {
		defer api.client.CloseIdleConnections()
		err := api.Call(ctx, http.MethodGet, "/readyz", "", nil, nil)
		if e, ok := errors.AsType[*StatusError](err); ok {
			return fmt.Errorf("it answers that it is not ready (%s)", e.Text)
		}
		return err
	}
}

// newKey is a fresh Idempotency-Key.
func newKey() string { return rand.Text() }
