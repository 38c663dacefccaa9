package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
)

// idempotencyHeader carries the client's key (draft-ietf-httpapi-idempotency-key-header).
const idempotencyHeader = "Idempotency-Key"

// maxIdempotencyKey bounds a key: a UUID has 36 characters, and people put names in front.
const maxIdempotencyKey = 255

// Errors of Store.Begin.
var (
	// ErrInProgress means that the first request with this key has not ended.
	ErrInProgress = errors.New("a request with this idempotency key is in progress")
	// ErrOtherRequest means that the key was used with another request.
	ErrOtherRequest = errors.New("the idempotency key was used with another request")
)

// Response is a kept answer.
type Response struct {
	// Status is the HTTP status.
	Status int
	// Header holds the headers that the handler set.
	Header http.Header
	// Body is the whole body.
	Body []byte
}

// Store keeps the answers to requests by key. Its methods are safe for concurrent use, also from several instances where the
// store is shared.
type Store interface {
	// Begin claims the key for a request with this digest and returns nil, nil; or it returns the kept answer of the same request. Errors:
	// ErrInProgress, ErrOtherRequest, or a fault of the store.
	Begin(ctx context.Context, key string, digest [sha256.Size]byte) (*Response, error)
	// Finish keeps the answer of a claimed key.
	Finish(ctx context.Context, key string, answer Response) error
	// Release gives a claimed key up, so that the same request may be tried again.
	Release(ctx context.Context, key string) error
}

// Idempotency makes a POST safe to repeat: the same Idempotency-Key with the same request gets the first answer again, marked
// "Idempotent-Replayed: true", and the handler runs once. A missing or malformed key answers 400, a key in progress 409, a key that
// was used with another request 422. Other methods pass. Mount it on the routes that require a key.
//
// scope names whose keys these are (for example the client certificate's name), so that clients cannot meet in one key; nil
// means one scope for all. Answers of 500 and above, and panics, are not kept: the same key then runs the handler again, which
// must find what it has done before.
func Idempotency(store Store, scope func(*http.Request) string) func(http.Handler) http.Handler {
	if scope == nil {
		scope = func(*http.Request) string { return "" }
	}
	return func(next http.Handler) http.Handler {
		return HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if r.Method != http.MethodPost {
				next.ServeHTTP(w, r)
				return nil
			}
			given := r.Header.Get(idempotencyHeader)
			if !validKey(given) {
				return &Error{
					Status: http.StatusBadRequest, Detail: fmt.Sprintf("this call needs an %s header of 1 to %d visible characters", idempotencyHeader, maxIdempotencyKey),
					NextStep: "choose a new key for each operation, for example a UUID, and repeat it only with the same request",
				}
			}
			digest, err := digestRequest(w, r)
			if err != nil {
				return err
			}
			key := scope(r) + "\x00" + given
			kept, err := store.Begin(r.Context(), key, digest)
			if err != nil {
				return beginError(w, err)
			}
			if kept != nil {
				w.Header().Set("Idempotent-Replayed", "true")
				kept.write(w)
				return nil
			}
			return runOnce(w, r, next, store, key)
		})
	}
}

// runOnce runs the handler of a claimed key and keeps its answer.
func runOnce(w http.ResponseWriter, r *http.Request, next http.Handler, store Store, key string) error {
	// The client's hanging up must not leave the key claimed, or an answer unkept.
	ctx := context.WithoutCancel(r.Context())
	ended := false
	defer func() {
		if !ended { // a panic, on its way to Recover
			_ = store.Release(ctx, key) // at worst the key stays claimed, which is the safe side
		}
	}()
	rec := &recorder{header: http.Header{}}
	next.ServeHTTP(rec, r)
	ended = true
	answer := rec.answer()
	if rec.overflow {
		answer = tooLong()
	}
	var err error
	if answer.Status >= http.StatusInternalServerError && !rec.overflow {
		err = store.Release(ctx, key)
	} else {
		err = store.Finish(ctx, key, answer)
	}
	if err != nil {
		// What was done is done: the client gets its answer, and the key stays claimed.
		note(ctx, fmt.Errorf("keep the answer of an idempotency key: %w", err))
	}
	answer.write(w)
	return nil
}

// tooLong is the answer in place of one that cannot be kept.
func tooLong() Response {
	return Response{
		Status: http.StatusInternalServerError, Header: http.Header{"Content-Type": {problemType}},
		Body: []byte(`{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the operation may be done, but its answer is too long","next_step":"read the state of what was to be changed"}` + "\n"),
	}
}

// beginError turns an error of the store into an answer.
func beginError(w http.ResponseWriter, err error) error {
	switch {
	case errors.Is(err, ErrInProgress):
		w.Header().Set("Retry-After", "1")
		return &Error{Status: http.StatusConflict, Detail: ErrInProgress.Error(), NextStep: "repeat the same request in a moment", Cause: err}
	case errors.Is(err, ErrOtherRequest):
		return &Error{Status: http.StatusUnprocessableEntity, Detail: ErrOtherRequest.Error(), NextStep: "use a new key for a new request", Cause: err}
	default:
		return &Error{Status: http.StatusServiceUnavailable, Detail: "idempotency keys cannot be checked at the moment; nothing was done", NextStep: "repeat the same request in a moment", Cause: err}
	}
}

// validKey accepts visible ASCII.
func validKey(k string) bool {
	for i := range len(k) {
		if k[i] < 0x21 || k[i] > 0x7E {
			return false
		}
	}
	return k != "" && len(k) <= maxIdempotencyKey
}

// digestRequest reads the body, which it puts back, and covers method, path, query, media type and body, each with its length.
func digestRequest(w http.ResponseWriter, r *http.Request) (sum [sha256.Size]byte, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return sum, decodeError(err)
		}
		return sum, &Error{Status: http.StatusBadRequest, Detail: "the body could not be read", Cause: err}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h := sha256.New()
	for _, part := range [][]byte{[]byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery), []byte(r.Header.Get("Content-Type")), body} {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
		_, _ = h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// recorder collects an answer of at most MaxBody bytes.
type recorder struct {
	header   http.Header
	status   int
	body     bytes.Buffer
	overflow bool
}

// Header implements http.ResponseWriter.
func (rec *recorder) Header() http.Header { return rec.header }

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && status >= http.StatusOK { // 1xx are not the answer
		rec.status = status
	}
}

// Write implements http.ResponseWriter.
func (rec *recorder) Write(b []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	if rec.body.Len()+len(b) > MaxBody {
		rec.overflow = true
		return 0, fmt.Errorf("answer longer than %d bytes", MaxBody)
	}
	return rec.body.Write(b)
}

func (rec *recorder) answer() Response {
	rec.WriteHeader(http.StatusOK)
	return Response{Status: rec.status, Header: rec.header.Clone(), Body: rec.body.Bytes()}
}

// write sends a kept answer.
func (a Response) write(w http.ResponseWriter) {
	for name, values := range a.Header {
		w.Header()[name] = slices.Clone(values) // a kept answer is sent many times
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // fails only when the client is gone
}
