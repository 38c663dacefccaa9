package pos

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"
)

const (
	// maxBody bounds a request of the control API: a sale is a few hundred bytes.
	maxBody = 4 << 10
	// maxCommand bounds a command: a purchase may wait behind three reversals, each with a terminal's time-out.
	maxCommand = 5 * time.Minute
)

// Status is a terminal in the list of the control API.
type Status struct {
	ID              string  `json:"id"`
	Merchant        string  `json:"merchant"`
	PSAM            string  `json:"psam"`
	SignedOn        bool    `json:"signed_on"`
	Trace           int     `json:"trace"`
	Batch           string  `json:"batch"`
	PendingReversal bool    `json:"pending_reversal"`
	Last            *Result `json:"last,omitempty"`
}

// Routes is the control API of the fleet: POST /v1/terminals/{id}/{command} with a Sale (or nothing) as JSON answers a Result; the commands are
// signon, signoff, echo, reversal, deliver and those of Terminal.Trade. GET /v1/terminals answers a list of Status;
// GET /v1/terminals/{id}/history answers the last results, newest first.
func (f *Fleet) Routes() http.Handler {
	r := chi.NewRouter()
	r.Get("/v1/terminals", f.list)
	r.Get("/v1/terminals/{id}/history", f.history)
	r.Post("/v1/terminals/{id}/{command}", f.command)
	return r
}

func (f *Fleet) command(w http.ResponseWriter, req *http.Request) {
	var sale Sale
	decoder := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&sale); err != nil && !errors.Is(err, io.EOF) {
		// The decoder's words may quote the body, which may hold a PIN.
		refuse(w, http.StatusBadRequest, errors.New(`the body must be JSON such as {"amount":100,"pan":"…","pin":"…","entry":"swipe"}`))
		return
	}
	// A caller who hangs up does not end a transaction: the terminal finishes what it began.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), maxCommand)
	defer cancel()
	switch req.URL.Query().Get("tls") {
	case "":
	case "true":
		ctx = OverTLS(ctx)
	default:
		refuse(w, http.StatusBadRequest, errors.New("tls is true or left out"))
		return
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-f.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-stopped }()
	result, err := f.Do(ctx, chi.URLParam(req, "id"), chi.URLParam(req, "command"), sale)
	switch {
	case errors.Is(err, ErrNoTerminal) || errors.Is(err, errNoCommand):
		refuse(w, http.StatusNotFound, err)
	case err != nil:
		refuse(w, http.StatusInternalServerError, err)
	default:
		answer(w, http.StatusOK, result)
	}
}

func (f *Fleet) list(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, f.Statuses())
}

// Statuses lists all terminals by number. It never waits for a transaction.
func (f *Fleet) Statuses() []Status {
	f.mu.Lock()
	list := make([]Status, 0, len(f.all))
	members := make([]*member, 0, len(f.all))
	for id, m := range f.all {
		list = append(list, Status{ID: id, Merchant: m.terminal.cfg.MerchantID, PSAM: m.psam})
		members = append(members, m)
	}
	f.mu.Unlock()
	for i, m := range members {
		m.mu.Lock()
		s := &list[i]
		s.SignedOn, s.Trace, s.Batch, s.PendingReversal = m.state.SignedOn, m.state.Trace, m.state.Batch, m.state.Pending != nil
		if n := len(m.history); n > 0 {
			last := m.history[n-1]
			s.PendingReversal = last.PendingReversal
			// The list is for an overview; the dumps are in the history.
			last.Request, last.Answer = nil, nil
			s.Last = &last
		}
		m.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (f *Fleet) history(w http.ResponseWriter, req *http.Request) {
	id := chi.URLParam(req, "id")
	f.mu.Lock()
	m := f.all[id]
	f.mu.Unlock()
	if m == nil {
		refuse(w, http.StatusNotFound, fmt.Errorf("%w: %s", ErrNoTerminal, id))
		return
	}
	m.mu.Lock()
	results := append([]Result{}, m.history...)
	m.mu.Unlock()
	slices.Reverse(results)
	answer(w, http.StatusOK, results)
}

// failure is the body of every refusal.
type failure struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, code int, err error) { answer(w, code, failure{Error: err.Error()}) }

func answer(w http.ResponseWriter, code int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		code, raw = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A caller who has gone needs no answer.
	_, _ = w.Write(append(raw, '\n'))
}
