package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/txn"
)

// Prefix begins every path of the interface.
const Prefix = "/v1/routes"

const (
	// maxReason bounds the words of an operator, which go into history and database.
	maxReason = 500
	// maxOperator bounds an operator's name in bytes, as posv does.
	maxOperator = 128
	// defaultPage is the length of a list whose reader asks for none.
	defaultPage = 50
)

// Handler serves the routing over HTTP, on as many listeners as mount it. Reading and testing are as open as the listener; a change needs
// the certificate of an operator, and carries its name into the history.
type Handler struct {
	operators []string
	log       *slog.Logger
	once      func(http.Handler) http.Handler
	desk      atomic.Pointer[desk]
}

// desk is what is served, once it runs.
type desk struct {
	book  *Book
	ready func(host string) error
	zone  *time.Location
}

// NewHandler makes a handler. operators are the common names of the certificates whose owners may change the routing; empty: nobody may.
func NewHandler(operators []string, log *slog.Logger) *Handler {
	h := &Handler{operators: operators, log: log}
	h.once = httpapi.Idempotency(httpapi.NewMemoryStore(), h.operator)
	return h
}

// Serve says which book is served from now on. ready tells whether a host can take a transaction now, zone in which times of day are meant.
func (h *Handler) Serve(book *Book, zone *time.Location, ready func(host string) error) {
	h.desk.Store(&desk{book, ready, zone})
}

// The bodies of requests and answers.
type (
	// SetOrder replaces the rules.
	SetOrder struct {
		Document string `json:"document"`
		Order
	}
	// UndoOrder brings earlier rules back.
	UndoOrder struct {
		To *int64 `json:"to,omitempty"` // version to bring back, 0: no rules; left out: the one before
		Order
	}
	// Order is what every change carries.
	Order struct {
		Base   *int64 `json:"base,omitempty"` // version that the operator has seen; left out: the newest that the service knows
		Reason string `json:"reason,omitempty"`
	}
	// Question is a transaction to try the rules on.
	Question struct {
		Card     string     `json:"card,omitempty"` // the number, or its first digits
		Kind     txn.Kind   `json:"kind,omitempty"` // left out: purchase
		Amount   int64      `json:"amount,omitempty"`
		Merchant string     `json:"merchant,omitempty"`
		Terminal string     `json:"terminal,omitempty"`
		Batch    string     `json:"batch,omitempty"`
		Trace    string     `json:"trace,omitempty"`
		At       *time.Time `json:"at,omitempty"`       // left out: now
		Document *string    `json:"document,omitempty"` // rules to try; left out: those in force
	}
	// Verdict is the answer to a Question.
	Verdict struct {
		Decision
		Host     string            `json:"host"`      // that gets it now; "" when none of the hosts is ready
		NotReady map[string]string `json:"not_ready"` // of the hosts of the decision, with the reason
	}
	// List is a list of versions.
	List struct {
		Items []Version `json:"items"`
	}
)

// Mount adds the interface to a listener's router.
func (h *Handler) Mount(router chi.Router) {
	read := func(method, path string, do func(http.ResponseWriter, *http.Request, *desk) error) {
		router.Method(method, Prefix+path, h.served(do))
	}
	change := func(path string, do func(http.ResponseWriter, *http.Request, *desk) error) {
		router.Method(http.MethodPost, Prefix+path, h.guarded(h.keyed(h.served(do))))
	}
	read(http.MethodGet, "", func(w http.ResponseWriter, r *http.Request, d *desk) error {
		httpapi.WriteJSON(w, r, http.StatusOK, d.book.Status())
		return nil
	})
	read(http.MethodGet, "/versions", versions)
	read(http.MethodPost, "/test", test)
	change("", h.set)
	change("/undo", h.undo)
}

// served finds the desk and turns refusals into problem documents.
func (h *Handler) served(do func(http.ResponseWriter, *http.Request, *desk) error) http.Handler {
	return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		d := h.desk.Load()
		if d == nil {
			return &httpapi.Error{Status: http.StatusServiceUnavailable, Detail: "posp is starting", NextStep: "try again in a moment"}
		}
		ctx, cancel := context.WithTimeout(r.Context(), 4*queryTimeout)
		defer cancel()
		err := do(w, r.WithContext(ctx), d)
		var refusal *Refusal
		switch {
		case errors.As(err, &refusal):
			e := &httpapi.Error{Status: http.StatusUnprocessableEntity, Type: "urn:keyward:route:invalid", Detail: refusal.Text, NextStep: refusal.Next}
			if refusal.Conflict {
				e.Status, e.Type = http.StatusConflict, "urn:keyward:route:conflict"
			}
			return e
		case errors.Is(err, ErrAway):
			return &httpapi.Error{
				Status: http.StatusServiceUnavailable, Detail: "the database does not answer; the rules in force stay in force",
				NextStep: "look at the rules when the database is back (posp route list): the change may have arrived; order it again if not", Cause: err,
			}
		}
		return err
	})
}

// keyed repeats the answer of a request that carries an Idempotency-Key.
func (h *Handler) keyed(next http.Handler) http.Handler {
	kept := h.once(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") == "" {
			next.ServeHTTP(w, r)
			return
		}
		kept.ServeHTTP(w, r)
	})
}

// operator is the common name of the certificate that TLS has verified, "" for none. A header proves nothing.
func (h *Handler) operator(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return ""
	}
	return r.TLS.VerifiedChains[0][0].Subject.CommonName
}

// guarded lets only operators through.
func (h *Handler) guarded(next http.Handler) http.Handler {
	return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		name := h.operator(r)
		good := name != "" && len(name) <= maxOperator && oneLine(name)
		if good && slices.Contains(h.operators, name) {
			next.ServeHTTP(w, r)
			return nil
		}
		h.log.WarnContext(r.Context(), "routing: change refused: not an operator", "remote", r.RemoteAddr, "certificate", name)
		e := &httpapi.Error{Status: http.StatusForbidden, Detail: fmt.Sprintf("the certificate of %q may not change the routing", name),
			NextStep: "use the certificate of an operator, or ask for your name to be added to routing.operators of this service"}
		if name == "" {
			e.Detail = "changes of the routing are not taken here: this listener proves nobody's name"
			e.NextStep = "use the listener of hsm_operation (https, in dev mode 127.0.0.1:8084) with the certificate of an operator"
		}
		return e
	})
}

func oneLine(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// order checks what every change carries; base is below zero where none is given.
func (o Order) check() (base int64, err error) {
	base = -1
	if o.Base != nil {
		base = *o.Base
	}
	switch {
	case o.Base != nil && base < 0:
		err = &Refusal{Text: "base is below zero", Next: "leave base out, or give the version that you have seen"}
	case len(o.Reason) > maxReason || !oneLine(o.Reason):
		err = &Refusal{Text: fmt.Sprintf("the reason must be one line of text of at most %d bytes", maxReason), Next: "write it shorter, on one line"}
	}
	return base, err
}

func (h *Handler) set(w http.ResponseWriter, r *http.Request, d *desk) error {
	var in SetOrder
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	base, err := in.check()
	if err != nil {
		return err
	}
	v, err := d.book.Save(r.Context(), in.Document, h.operator(r), in.Reason, base)
	return created(w, r, v, err)
}

func (h *Handler) undo(w http.ResponseWriter, r *http.Request, d *desk) error {
	var in UndoOrder
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	base, err := in.check()
	if err != nil {
		return err
	}
	to := int64(-1)
	if in.To != nil {
		if to = *in.To; to < 0 {
			return &Refusal{Text: "to is below zero", Next: "leave it out to go back by one, or give the version to bring back; 0 is no rules"}
		}
	}
	v, err := d.book.Undo(r.Context(), to, h.operator(r), in.Reason, base)
	return created(w, r, v, err)
}

func created(w http.ResponseWriter, r *http.Request, v Version, err error) error {
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusCreated, v)
	return nil
}

func versions(w http.ResponseWriter, r *http.Request, d *desk) error {
	limit := defaultPage
	if text := r.URL.Query().Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > MaxPage {
			return &httpapi.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("limit must be a number from 1 to %d", MaxPage), NextStep: "leave it out for the newest 50"}
		}
	}
	list, err := d.book.Versions(r.Context(), limit)
	if err != nil {
		return err
	}
	if list == nil {
		list = []Version{}
	}
	httpapi.WriteJSON(w, r, http.StatusOK, List{list})
	return nil
}

// test says which rule fits a transaction, and why. The card number comes in the body and goes out masked.
func test(w http.ResponseWriter, r *http.Request, d *desk) error {
	var in Question
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	f, err := in.facts(d.book.cfg.Now().In(d.zone), d.zone)
	if err != nil {
		return err
	}
	table := d.book.Table()
	if in.Document != nil {
		if table, err = Parse(*in.Document, d.book.cfg.Hosts); err != nil {
			return &Refusal{Text: err.Error(), Next: "correct the document; nothing was changed"}
		}
	}
	v := Verdict{Decision: table.Explain(f), NotReady: map[string]string{}}
	for _, name := range v.Hosts {
		err := d.ready(name)
		if err != nil {
			v.NotReady[name] = err.Error()
		} else if v.Host == "" {
			v.Host = name
		}
	}
	httpapi.WriteJSON(w, r, http.StatusOK, v)
	return nil
}

func (q Question) facts(now time.Time, zone *time.Location) (Facts, error) {
	if q.Kind == "" {
		q.Kind = txn.Purchase
	}
	if q.At != nil {
		now = q.At.In(zone)
	}
	switch {
	case len(q.Card) > maxCard || strings.Trim(q.Card, "0123456789") != "":
		return Facts{}, &Refusal{Text: "the card must be a number of at most 19 digits, or its first digits", Next: "write digits only"}
	case !slices.Contains(kinds, q.Kind):
		return Facts{}, &Refusal{Text: fmt.Sprintf("kind %q is not known", q.Kind), Next: "known are: " + strings.ReplaceAll(join(kinds), " or ", ", ")}
	case q.Amount < 0:
		return Facts{}, &Refusal{Text: "the amount is below zero", Next: "give fen, for example 10000 for 100.00"}
	}
	return Facts{
		Card: q.Card, Kind: q.Kind, Amount: q.Amount, Merchant: q.Merchant, Terminal: q.Terminal, At: now,
		Key: txn.Key{Terminal: q.Terminal, Merchant: q.Merchant, Batch: q.Batch, Trace: q.Trace},
	}, nil
}
