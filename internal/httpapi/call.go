package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/keyward/keyward/keys/secret"
)

// maxAnswer bounds what is read of an answer: the longest is a page of 500 orders with their documents.
const maxAnswer = 16 << 20

var (
	// ErrNoAnswer says that the other side could not be reached, or broke off: what it did is not known.
	ErrNoAnswer = errors.New("no answer")
	// ErrNotOurs says that the answer has another form than expected: somebody else serves there, or another version.
	ErrNotOurs = errors.New("the answer cannot be read")
)

// Refusal is an answer other than 2xx: what a problem document (RFC 9457) says, or only its status.
type Refusal struct {
	Status   int
	Detail   string // empty: no problem document came
	NextStep string
}

// Error gives status, detail and next step.
func (r *Refusal) Error() string {
	text := fmt.Sprintf("%d %s", r.Status, http.StatusText(r.Status))
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	if r.NextStep != "" {
		text += "; " + r.NextStep
	}
	return text
}

// Call is one request to an interface of ours.
type Call struct {
	Method, URL    string
	IdempotencyKey string       // empty: none is sent
	Operator       string       // who acts, where no client certificate tells; empty: nobody is named
	Token          secret.Bytes // bearer token; empty: none is sent
	Body           any          // sent as JSON; nil: no body
}

// Do makes the call and decodes the answer into out, or drops it when out is nil; 204 leaves out as it is. Time-outs are those of ctx and
// client. The error is a *Refusal, or wraps ErrNoAnswer or ErrNotOurs; anything else is a call that cannot be made: a wrong URL, or a body
// that is no JSON.
func (c Call) Do(ctx context.Context, client *http.Client, out any) error {
	req, err := c.request(ctx)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if resp.StatusCode/100 != 2 {
		var p problem
		if json.Unmarshal(text, &p) != nil {
			p = problem{} // a member of a wrong type leaves the others half read
		}
		return &Refusal{Status: resp.StatusCode, Detail: p.Detail, NextStep: p.NextStep}
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	return nil
}

func (c Call) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if c.Body != nil {
		text, err := json.Marshal(c.Body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, c.Method, c.URL, body)
	if err != nil {
		return nil, err
	}
	if c.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", c.IdempotencyKey)
	}
	if c.Operator != "" {
		req.Header.Set("X-Operator", c.Operator)
	}
	if !c.Token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+string(c.Token.Reveal()))
	}
	return req, nil
}
