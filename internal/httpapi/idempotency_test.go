package httpapi_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyward/keyward/internal/httpapi"
)

// strictStore fails as a database does when the context has ended.
type strictStore struct{ *httpapi.MemoryStore }

func (s strictStore) Finish(ctx context.Context, key string, answer httpapi.Response) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.MemoryStore.Finish(ctx, key, answer)
}

// counted is a handler that says how often it ran, and the middleware around it.
func counted(h http.HandlerFunc) (http.Handler, *atomic.Int32) {
	var runs atomic.Int32
	log := slog.New(slog.DiscardHandler)
	return httpapi.Recover(log)(httpapi.Idempotency(strictStore{httpapi.NewMemoryStore()}, func(r *http.Request) string { return r.Header.Get("X-Client") })(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			runs.Add(1)
			h(w, r)
		}))), &runs
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	h, runs := counted(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Location", "/cards/1")
		w.WriteHeader(201)
		_, _ = w.Write(append([]byte("made "), b...))
	})
	first := do(t, h, "POST", "/cards", "a", "Idempotency-Key", "k")
	again := do(t, h, "POST", "/cards", "a", "Idempotency-Key", "k")
	if first.Code != 201 || again.Code != 201 || again.Body.String() != "made a" || again.Header().Get("Location") != "/cards/1" {
		t.Fatalf("%v %v", first, again)
	}
	if first.Header().Get("Idempotent-Replayed") != "" || again.Header().Get("Idempotent-Replayed") != "true" || runs.Load() != 1 {
		t.Fatalf("ran %d times", runs.Load())
	}
	wantProblem(t, do(t, h, "POST", "/cards", "b", "Idempotency-Key", "k"), 422, "another request")
	wantProblem(t, do(t, h, "POST", "/cards?x=1", "a", "Idempotency-Key", "k"), 422, "another request")
	wantProblem(t, do(t, h, "POST", "/other", "a", "Idempotency-Key", "k"), 422, "another request")
	for _, bad := range []string{"", "a b", "ä", strings.Repeat("x", 256)} {
		wantProblem(t, do(t, h, "POST", "/cards", "a", "Idempotency-Key", bad), 400, "Idempotency-Key")
	}
	wantProblem(t, do(t, h, "POST", "/cards", strings.Repeat("x", httpapi.MaxBody+1), "Idempotency-Key", "long"), 413, "longer")
	if runs.Load() != 1 {
		t.Fatalf("refused requests ran the handler: %d", runs.Load())
	}
	if w := do(t, h, "POST", "/cards", "a", "Idempotency-Key", "k", "X-Client", "another"); w.Code != 201 || runs.Load() != 2 {
		t.Fatal("keys of two clients meet")
	}
	do(t, h, "GET", "/cards", "")
	if runs.Load() != 3 {
		t.Fatal("a GET does not pass")
	}
}

func TestIdempotencyFailuresMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	step := 0
	h, _ := counted(func(w http.ResponseWriter, r *http.Request) {
		step++
		switch step {
		case 1:
			httpapi.WriteError(w, r, errors.New("database away"))
		case 2:
			panic("bug")
		case 3:
			_, err := w.Write(make([]byte, httpapi.MaxBody+1))
			if err == nil {
				t.Error("an answer without a bound")
			}
		default:
			t.Error("ran although its answer was lost")
		}
	})
	for _, want := range []string{"could not", "could not", "too long", "too long"} {
		wantProblem(t, do(t, h, "POST", "/", "a", "Idempotency-Key", "k"), 500, want)
	}
}

func TestIdempotencyConcurrent(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	h, runs := counted(func(w http.ResponseWriter, r *http.Request) {
		close(running)
		<-release
		if r.Context().Err() == nil {
			t.Error("the test's client has not hung up")
		}
		_, _ = w.Write([]byte("done"))
	})
	var wg sync.WaitGroup
	ctx, hangUp := context.WithCancel(t.Context())
	wg.Go(func() {
		r := httptest.NewRequestWithContext(ctx, "POST", "/", strings.NewReader("a"))
		r.Header.Set("Idempotency-Key", "k")
		h.ServeHTTP(httptest.NewRecorder(), r)
	})
	<-running
	w := do(t, h, "POST", "/", "a", "Idempotency-Key", "k")
	wantProblem(t, w, 409, "in progress")
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	hangUp()
	close(release)
	wg.Wait()
	if w := do(t, h, "POST", "/", "a", "Idempotency-Key", "k"); w.Body.String() != "done" || runs.Load() != 1 {
		t.Fatalf("the answer of a client that hung up was not kept: %v, %d runs", w, runs.Load())
	}
}
