package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/keyward/keyward/keys/secret"
)

// requestIDHeader carries the id in both directions.
const requestIDHeader = "X-Request-Id"

// maxRequestID bounds an id that a client gives: a UUID has 36 characters.
const maxRequestID = 64

// Log writes one line per request when it is done: id, method, route (the pattern, never the path: paths can hold numbers of
// cards), status, size, duration and, for a fault, its cause. A client's X-Request-Id is taken over when it is harmless. Log
// comes first, then Recover.
func Log(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began := time.Now()
			rec := &record{id: requestID(r)}
			r = r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
			w.Header().Set(requestIDHeader, rec.id)
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			// Deferred, so that an aborted request has its line too.
			defer func() {
				attrs := []any{"id", rec.id, "method", r.Method, "route", route(r), "status", statusOf(ww), "bytes", ww.BytesWritten(), "took", time.Since(began), "remote", r.RemoteAddr}
				switch {
				case rec.cause != nil && ww.Status() >= http.StatusInternalServerError:
					log.ErrorContext(r.Context(), "request failed", append(attrs, "error", rec.cause)...)
				case rec.cause != nil:
					log.WarnContext(r.Context(), "request refused", append(attrs, "error", rec.cause)...)
				default:
					log.InfoContext(r.Context(), "request", attrs...)
				}
			}()
			next.ServeHTTP(ww, r)
		})
	}
}

// statusOf is the status that was sent; a handler that writes nothing sends 200.
func statusOf(w middleware.WrapResponseWriter) int {
	if w.Status() == 0 {
		return http.StatusOK
	}
	return w.Status()
}

// route is the pattern that matched.
func route(r *http.Request) string {
	if c := chi.RouteContext(r.Context()); c != nil && c.RoutePattern() != "" {
		return c.RoutePattern()
	}
	return "none"
}

// requestID takes the client's id or makes one. An own id has 26 characters and no long runs of digits, so that the log does not mask it.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	if id == "" || len(id) > maxRequestID {
		return rand.Text()
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '_' {
			return rand.Text()
		}
	}
	return id
}

// Recover answers 500 when a handler panics and logs the stack without the value. http.ErrAbortHandler goes on: it is how
// a handler asks net/http to cut the connection.
func Recover(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			defer func() {
				v := recover()
				if v == nil {
					return
				}
				if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(v)
				}
				log.ErrorContext(r.Context(), "handler panicked", "id", RequestID(r.Context()), "route", route(r), "kind", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
				if ww.Status() != 0 {
					panic(http.ErrAbortHandler) // half an answer is out: cutting it off is the only honest end
				}
				WriteError(ww, r, fmt.Errorf("panic with a value of type %T", v))
			}()
			next.ServeHTTP(ww, r)
		})
	}
}

// Bearer lets only requests with the header "Authorization: Bearer <token>" through (RFC 6750 §2.1), for calls between services. It
// compares digests in constant time. An empty token lets nobody through.
func Bearer(token secret.Bytes) func(http.Handler) http.Handler {
	want := sha256.Sum256(token.Reveal())
	usable := !token.IsZero()
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			got := sha256.Sum256([]byte(given))
			if !usable || !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				WriteError(w, r, &Error{Status: http.StatusUnauthorized, Detail: "this call needs a valid token", NextStep: "send the header Authorization: Bearer with the token of this service"})
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// NotFound answers 404 as a problem document.
func NotFound(w http.ResponseWriter, r *http.Request) {
	WriteError(w, r, &Error{Status: http.StatusNotFound, Detail: "there is nothing at this path", NextStep: "see /openapi.json for what there is"})
}

// methodNotAllowed answers 405 as a problem document, with the Allow header that RFC 9110 §15.5.6 asks for (chi leaves it to a handler
// of one's own).
func methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	if c := chi.RouteContext(r.Context()); c != nil && c.Routes != nil {
		for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if c.Routes.Match(chi.NewRouteContext(), m, r.URL.Path) {
				w.Header().Add("Allow", m)
			}
		}
	}
	WriteError(w, r, &Error{Status: http.StatusMethodNotAllowed, Detail: "this path does not know the method that was used", NextStep: "see /openapi.json for what there is"})
}
