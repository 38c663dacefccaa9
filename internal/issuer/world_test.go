package issuer_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/issuer"
	"github.com/keyward/keyward/internal/issuer/simreader"
	"github.com/keyward/keyward/internal/keyservice/keyservicetest"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/relay"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
	"github.com/keyward/keyward/sim/psam"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	card     = keyservicetest.Card
	patience = 30 * time.Second
)

// world is everything around an issuer: a real key service behind posp's real relay, a registry of a few lines, and simulated cards
// behind a control API of a few lines.
type world struct {
	t        *testing.T
	keys     *keyservicetest.Service
	posp     *httptest.Server
	registry *httptest.Server
	control  *httptest.Server
	app      *issuer.App
	reader   *simreader.Reader
	url      string
	log      *bytes.Buffer

	mu       sync.Mutex
	orders   []map[string]any
	states   map[string]string // of cards in the registry
	cards    map[string]*psam.Card
	statuses []string // status words of all answers of cards
	calls    int      // requests to all others
	crash    crash
	alter    func(apdu, answer string) string // changes what a card answers; nil for nothing
	hold     chan struct{}                    // when not nil, commands to cards wait for it
	held     chan struct{}                    // receives one for each waiting command
}

// crash breaks the line of one request.
type crash struct {
	at    int  // which request, from 1; 0 for none
	after bool // the request is carried out and its answer lost; else it never arrives
}

func newWorld(t *testing.T, transport string) *world {
	t.Helper()
	w := &world{t: t, keys: keyservicetest.New(t, keyservicetest.Options{}), states: map[string]string{}, cards: map[string]*psam.Card{}, log: &bytes.Buffer{}}
	toKeys, err := relay.New(w.keys.URL, w.keys.Files.Cert, w.keys.Files.Key, w.keys.Files.CA, slog.New(slog.DiscardHandler))
	must(t, err)
	w.posp = w.serve(toKeys)
	w.registry = w.serve(w.registryRoutes())
	w.control = w.serve(w.controlRoutes(transport))
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve starts a server whose requests are counted, and broken where the test wants it.
func (w *world) serve(h http.Handler) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.calls++
		broken, after := w.calls == w.crash.at, w.crash.after
		w.mu.Unlock()
		if !broken {
			h.ServeHTTP(rw, r)
			return
		}
		if after {
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		panic(http.ErrAbortHandler)
	}))
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) registryRoutes() http.Handler {
	r := chi.NewRouter()
	answer := func(rw http.ResponseWriter, status int, v any) {
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(v)
	}
	r.Get("/v1/orders", func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		answer(rw, 200, map[string]any{"items": w.orders})
	})
	r.Get("/v1/orders/{id}", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, o := range w.orders {
			if o["order_id"] == chi.URLParam(r, "id") {
				answer(rw, 200, o)
				return
			}
		}
		answer(rw, 404, map[string]any{"detail": "no such order"})
	})
	r.Post("/v1/cards", func(rw http.ResponseWriter, r *http.Request) {
		var in struct {
			PSAM string `json:"psam_no"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.states[in.PSAM] == "" {
			w.states[in.PSAM] = "registered"
		}
		if r.Header.Get("Idempotency-Key") == "" || r.Header.Get("X-Operator") == "" {
			answer(rw, 400, nil)
			return
		}
		answer(rw, 201, map[string]any{"psam_no": in.PSAM, "state": w.states[in.PSAM]})
	})
	r.Post("/v1/cards/{psam}/state", func(rw http.ResponseWriter, r *http.Request) {
		var in map[string]string
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.states[chi.URLParam(r, "psam")] = in["state"]
		answer(rw, 200, map[string]any{})
	})
	return r
}

func (w *world) controlRoutes(transport string) http.Handler {
	key, err := hex.DecodeString(transport)
	must(w.t, err)
	r := chi.NewRouter()
	r.Post("/v1/cards", func(rw http.ResponseWriter, r *http.Request) {
		var in struct {
			PSAM string `json:"psam_no"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cards[in.PSAM] == nil {
			c, err := psam.NewBlank(in.PSAM, key)
			if err != nil {
				rw.WriteHeader(400)
				return
			}
			w.cards[in.PSAM] = c
		}
		_, _ = io.WriteString(rw, "{}")
	})
	r.Post("/v1/cards/{psam}/apdu", func(rw http.ResponseWriter, r *http.Request) {
		var in struct {
			APDU string `json:"apdu"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.mu.Lock()
		hold, c := w.hold, w.cards[chi.URLParam(r, "psam")]
		w.mu.Unlock()
		if hold != nil {
			w.held <- struct{}{}
			<-hold
		}
		apdu, err := hex.DecodeString(in.APDU)
		if c == nil || err != nil {
			rw.WriteHeader(404)
			return
		}
		answer := c.Transmit(apdu)
		w.mu.Lock()
		if w.alter != nil {
			answer, err = hex.DecodeString(w.alter(in.APDU, strings.ToUpper(hex.EncodeToString(answer))))
		}
		w.statuses = append(w.statuses, strings.ToUpper(hex.EncodeToString(answer[len(answer)-2:])))
		w.mu.Unlock()
		if err != nil {
			w.t.Error(err)
		}
		_ = json.NewEncoder(rw).Encode(map[string]string{"response": strings.ToUpper(hex.EncodeToString(answer))})
	})
	return r
}

// start starts an issuer, as after a restart.
func (w *world) start() {
	w.t.Helper()
	file := filepath.Join(w.keys.Dir, "issuer-database")
	must(w.t, os.WriteFile(file, []byte(w.keys.DB.URL(migrations.RoleIssuer)), 0o600))
	cfg := issuer.DefaultConfig()
	cfg.Profile = service.Dev
	cfg.Database.URLFile = service.SecretFile(file)
	cfg.Listen.Addr = "127.0.0.1:0"
	cfg.POSP.URL, cfg.Registry.URL = w.posp.URL, w.registry.URL
	cfg.Reader = issuer.ReaderConfig{Driver: issuer.DriverSim, URL: w.control.URL}
	must(w.t, cfg.Validate())
	var err error
	w.reader, err = simreader.New(cfg.Reader.URL)
	must(w.t, err)
	w.app, err = issuer.New(issuer.Options{
		Config: cfg, Reader: w.reader, Log: slog.New(slog.NewTextHandler(w.log, nil)), Registry: prometheus.NewRegistry(),
	})
	must(w.t, err)
	must(w.t, w.app.Start(w.t.Context()))
	w.url = "http://" + w.app.Addr().String()
}

func (w *world) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(w.t, w.app.Stop(ctx))
	w.reader.Close()
}

// order has the registry offer a signed order.
func (w *world) order(n, count int, life time.Duration) (string, order.Signed) {
	w.t.Helper()
	return w.offer(w.keys.Order(w.t, n, count, life))
}

func (w *world) offer(o order.Order, signed order.Signed) (string, order.Signed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders = append(w.orders, map[string]any{"order_id": o.ID, "state": "signed", "document": signed.Document, "signature": signed.Signature})
	return o.ID, signed
}

type issued struct {
	Run   string `json:"run_id"`
	PSAM  string `json:"psam_no"`
	State string
	KCV   string
	Steps []struct{ Name, Result string }
}

// issue asks for a card and returns status and body.
func (w *world) issue(key string, body map[string]any) (int, string) {
	w.t.Helper()
	text, err := json.Marshal(body)
	must(w.t, err)
	status, answer, err := w.send(http.MethodPost, "/v1/cards", key, text)
	must(w.t, err)
	return status, answer
}

func (w *world) send(method, path, key string, body []byte) (int, string, error) {
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Operator", "carol")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), errors.Join(err, resp.Body.Close())
}

func want(t *testing.T, what string, status int, body string, wantStatus int, words ...string) {
	t.Helper()
	if status != wantStatus {
		t.Fatalf("%s: status %d, want %d: %s", what, status, wantStatus, body)
	}
	for _, w := range words {
		if !strings.Contains(body, w) {
			t.Errorf("%s: no %q in %s", what, w, body)
		}
	}
}

func parse[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
