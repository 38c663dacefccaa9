package bank

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
)

// maxBody bounds a body of the control API: a full list of faults needs about 10 kB.
const maxBody = 64 * 1024

// statusJSON is the answer of GET /.
type statusJSON struct {
	Addr      string  `json:"addr"`
	Listening bool    `json:"listening"`
	Sessions  int     `json:"connections"`
	SignedOn  int     `json:"signed_on"` // Connections that are signed on.
	Held      int     `json:"held"`      // Answers that wait for a release.
	Faults    []Fault `json:"faults"`
	Totals    Totals  `json:"totals"`
}

// faultsJSON is the body of PUT /faults and the answer of both methods.
type faultsJSON struct {
	Faults []Fault `json:"faults"`
}

// Routes is the control API, to be mounted under /v1/bank. All bodies are JSON with snake_case names; a refusal is 400 with
// {"error": text}. The API has no access control: serve it on the loopback address only.
//
//	GET    /         what runs: address, connections, faults, totals
//	PUT    /faults   {"faults":[{"kind":"late","delay_ms":500,"mti":"0200","next":1}]} replaces all faults
//	DELETE /faults   mends everything
//	GET    /history  the last messages, oldest first; ?limit=N
//	GET    /book     balances, bookings, totals
//	POST   /reset    as Reset
//	POST   /release  sends held answers: {"released": N}
func (b *Bank) Routes() http.Handler {
	r := chi.NewRouter()
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) { b.reply(w, http.StatusOK, b.status()) })
	r.Put("/faults", b.putFaults)
	r.Delete("/faults", func(w http.ResponseWriter, _ *http.Request) { b.changeFaults(w, nil) })
	r.Get("/history", b.getHistory)
	r.Get("/book", func(w http.ResponseWriter, _ *http.Request) { b.reply(w, http.StatusOK, b.Book()) })
	r.Post("/reset", func(w http.ResponseWriter, _ *http.Request) {
		b.Reset()
		b.reply(w, http.StatusOK, b.status())
	})
	r.Post("/release", func(w http.ResponseWriter, _ *http.Request) {
		b.reply(w, http.StatusOK, map[string]int{"released": b.Release()})
	})
	return r
}

func (b *Bank) status() statusJSON {
	out := statusJSON{Addr: b.Addr(), Held: b.held.count(), Faults: b.Faults(), Totals: b.book.sum()}
	b.life.Lock()
	defer b.life.Unlock()
	out.Listening = b.life.listener != nil
	out.Sessions = len(b.life.sessions)
	for s := range b.life.sessions {
		if s.signedOn.Load() {
			out.SignedOn++
		}
	}
	return out
}

func (b *Bank) putFaults(w http.ResponseWriter, r *http.Request) {
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	in.DisallowUnknownFields()
	var body faultsJSON
	if err := in.Decode(&body); err != nil {
		b.refuse(w, http.StatusBadRequest, fmt.Errorf("body is not a list of faults: %w", err))
		return
	}
	b.changeFaults(w, body.Faults)
}

func (b *Bank) changeFaults(w http.ResponseWriter, faults []Fault) {
	if err := checkFaults(faults); err != nil {
		b.refuse(w, http.StatusBadRequest, err)
		return
	}
	if err := b.SetFaults(faults...); err != nil {
		b.refuse(w, http.StatusConflict, err)
		return
	}
	b.reply(w, http.StatusOK, faultsJSON{Faults: b.Faults()})
}

func (b *Bank) getHistory(w http.ResponseWriter, r *http.Request) {
	limit := 0
	if q := r.URL.Query().Get("limit"); q != "" {
		var err error
		if limit, err = strconv.Atoi(q); err != nil || limit < 1 {
			b.refuse(w, http.StatusBadRequest, fmt.Errorf("limit must be a number from 1"))
			return
		}
	}
	b.reply(w, http.StatusOK, map[string][]Entry{"history": b.History(limit)})
}

func (b *Bank) refuse(w http.ResponseWriter, status int, err error) {
	b.reply(w, status, map[string]string{"error": err.Error()})
}

func (b *Bank) reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		b.log.Debug("bank simulator: control answer not sent", "error", err)
	}
}
