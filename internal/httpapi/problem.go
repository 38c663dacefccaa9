// Package httpapi holds what Keyward's HTTP interfaces share: answers to faults as problem documents, strict reading of JSON,
// idempotent POSTs, request logging, the OpenAPI document, and servers with every time-out and limit set, plain or with mutual TLS
// 1.3. What a service's interface offers is the service's own.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// problemType is the media type of RFC 9457 §6.1.
const problemType = "application/problem+json"

// Error is a fault with what the client may know of it. The cause is logged and never sent.
type Error struct {
	// Status is the HTTP status, 400 to 599.
	Status int
	// Type is a URI that names the kind of problem; empty means "about:blank" (RFC 9457 §4.2.1): nothing beyond the status.
	Type string
	// Detail tells the client in a sentence what is wrong with this request. No secrets.
	Detail string
	// NextStep tells what a person can do now; may be empty.
	NextStep string
	// Cause is for the log; may be nil.
	Cause error
}

// Error gives status, detail and cause: for logs.
func (e *Error) Error() string {
	text := http.StatusText(e.Status) + ": " + e.Detail
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// problem is the document of RFC 9457 §3.1 with one member more.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"`
	NextStep string `json:"next_step,omitempty"`
}

// WriteError answers with a problem document. An error that is no *Error answers 500 without a word of its text. The instance is
// the request id, so that the log line can be found.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Status: http.StatusInternalServerError, Detail: "the server could not do this", NextStep: "try again; if it persists, look for the request id in the server's log", Cause: err}
	}
	note(r.Context(), err)
	p := problem{Type: e.Type, Title: http.StatusText(e.Status), Status: e.Status, Detail: e.Detail, NextStep: e.NextStep}
	if p.Type == "" {
		p.Type = "about:blank"
	}
	if id := RequestID(r.Context()); id != "" {
		p.Instance = "urn:request:" + id
	}
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(p) // fails only when the client is gone
}

// WriteJSON answers with a document. A body that cannot be encoded is a fault of the program and answers 500.
func WriteJSON(w http.ResponseWriter, r *http.Request, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // fails only when the client is gone
}

// HandlerFunc is a handler that leaves its faults to WriteError.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// ServeHTTP implements http.Handler.
func (f HandlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := f(w, r); err != nil {
		WriteError(w, r, err)
	}
}

// record is what the request log line gathers on the way.
type record struct {
	id    string
	cause error
}

// recordKey is the context key of *record.
type recordKey struct{}

// RequestID is the id of the request that ctx belongs to, "" outside Log.
func RequestID(ctx context.Context) string {
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		return rec.id
	}
	return ""
}

// note keeps the cause of a fault for the log line.
func note(ctx context.Context, err error) {
	if rec, ok := ctx.Value(recordKey{}).(*record); ok && rec.cause == nil {
		rec.cause = err
	}
}

var _ http.Handler = HandlerFunc(nil)
