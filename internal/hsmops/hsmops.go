// Package hsmops is the operation of an HSM cluster over HTTP (rows C2 to C6 and C13): what operators see of engine, members, queues and
// history, and everything that they can change while it runs. Reading is as open as the listener; a change needs an operator's
// certificate, and carries its name into log and history. Client is the other side, for the command line and for posv.
package hsmops

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmlist"
	"github.com/keyward/keyward/internal/httpapi"
)

// Prefix begins every path of the interface.
const Prefix = "/v1/hsm"

// opTimeout bounds one operation; draining waits for what is under way. It stays below the write time-out of our servers (90 s).
const opTimeout = 60 * time.Second

// Cluster is what operation needs of the HSM cluster. Its refusals are *member.Refusal.
type Cluster interface {
	Engine() member.Engine
	StartEngine(act member.Act) error
	StopEngine(ctx context.Context, act member.Act) error
	SetMonitoring(act member.Act, on bool) error
	SetJournal(act member.Act, on bool) error
	Members() []member.Status
	Member(name string) (member.Status, error)
	Add(ctx context.Context, act member.Act, spec member.Spec) error
	Remove(ctx context.Context, act member.Act, name string) error
	SetState(ctx context.Context, act member.Act, name string, to member.State) error
	Modify(act member.Act, name string, ch member.Change) error
	Probe(ctx context.Context, name string) (member.ProbeResult, error)
	Inject(act member.Act, name string, f member.Fault) error
	Clear(act member.Act, name string) error
	Queues() []member.Queues
	ClearQueue(act member.Act, domain string, kind member.QueueKind) (int, error)
	History(limit int) []member.Switch
}

// List is what operation needs of the shared member list (hsmlist.List).
type List interface {
	Status() hsmlist.Status
	Save(ctx context.Context, act member.Act, base int64) (hsmlist.Version, error)
	Versions(ctx context.Context, limit int) ([]hsmlist.Version, error)
	History(ctx context.Context, f hsmlist.Filter) ([]hsmlist.Entry, error)
}

// Options are the parts. Cluster is required.
type Options struct {
	Cluster Cluster
	List    List // nil: no list is shared, nothing can be made permanent
	// Operators are the common names of the certificates whose owners may change things. Empty: nobody may.
	Operators []string
	// Relays are the common names of services, as a rule posv, that pass on what an operator orders and name him in X-Operator. The name
	// must be among Operators.
	Relays []string
	// Complete fills in what a new member takes from the configuration; Check refuses one that the profile forbids. Both may be nil.
	Complete func(member.Spec) member.Spec
	Check    func(member.Spec) error
	// Readers are the common names of further certificates that may read, where the listener asks who reads; empty: everybody may.
	Readers []string
	// More adds routes of other parts, for example drills.
	More []func(Routes)
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
}

// Handler serves the interface on as many listeners as mount it.
type Handler struct {
	opt   Options
	guard guard
	once  func(http.Handler) http.Handler
}

// New checks the options.
func New(opt Options) (*Handler, error) {
	if opt.Cluster == nil {
		return nil, errors.New("hsm operation: no cluster given")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Complete == nil {
		opt.Complete = func(s member.Spec) member.Spec { return s }
	}
	if opt.Check == nil {
		opt.Check = func(member.Spec) error { return nil }
	}
	h := &Handler{opt: opt, guard: guard{operators: opt.Operators, relays: opt.Relays, readers: opt.Readers, log: opt.Log}}
	// Operations can be repeated without harm, so answers need not outlive the process.
	h.once = httpapi.Idempotency(httpapi.NewMemoryStore(), func(r *http.Request) string { return authorOf(r.Context()) })
	return h, nil
}

// Routes registers what is served: paths below Prefix, for example "/members/{name}/probe".
type Routes struct {
	// Read adds a GET that changes nothing.
	Read func(path string, h httpapi.HandlerFunc)
	// Write adds a POST that only operators reach. ActOf tells the handler who it is.
	Write func(path string, h httpapi.HandlerFunc)
}

// Mount adds the interface to a listener's router.
func (h *Handler) Mount(router chi.Router) {
	routes := Routes{
		Read: func(path string, handle httpapi.HandlerFunc) {
			router.Method(http.MethodGet, Prefix+path, h.guard.reads(bounded(refusing(handle))))
		},
		Write: func(path string, handle httpapi.HandlerFunc) {
			router.Method(http.MethodPost, Prefix+path, h.guard.changes(h.keyed(bounded(h.logged(path, refusing(handle))))))
		},
	}
	h.reads(routes)
	h.members(routes)
	h.engine(routes)
	for _, more := range h.opt.More {
		more(routes)
	}
}

// keyed repeats the answer of a request that carries an Idempotency-Key. Without one a request is simply done.
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

// logged writes a line for every change that was ordered, with its author.
func (h *Handler) logged(path string, next httpapi.HandlerFunc) http.Handler {
	return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		err := next(w, r)
		attrs := []any{"operation", path, "by", authorOf(r.Context())}
		if name := chi.URLParam(r, "name"); name != "" {
			attrs = append(attrs, "member", name)
		}
		if err != nil {
			h.opt.Log.WarnContext(r.Context(), "HSM operation refused", append(attrs, "error", saidOnce(err))...)
			return err
		}
		h.opt.Log.InfoContext(r.Context(), "HSM operation done", attrs...)
		return nil
	})
}

// saidOnce leaves out what an answer says of its cause when the cause says it too.
func saidOnce(err error) error {
	var e *httpapi.Error
	if errors.As(err, &e) && e.Cause != nil && strings.Contains(e.Cause.Error(), e.Detail) {
		return e.Cause
	}
	return err
}

// bounded ends the work on a request in time.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), opTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// refusing turns what the cluster refuses into a problem document.
func refusing(h httpapi.HandlerFunc) httpapi.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		var refusal *member.Refusal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refusal):
			status := map[member.RefusalKind]int{
				member.NotFound: http.StatusNotFound, member.Conflict: http.StatusConflict, member.Unsafe: http.StatusConflict,
				member.Invalid: http.StatusUnprocessableEntity,
			}[refusal.Kind]
			if status == 0 {
				status = http.StatusConflict
			}
			return &httpapi.Error{Status: status, Type: "urn:keyward:hsm:" + string(refusal.Kind), Detail: refusal.Text, NextStep: refusal.Next, Cause: err}
		case errors.Is(err, hsmlist.ErrAway):
			return &httpapi.Error{
				Status: http.StatusServiceUnavailable, Detail: "the database does not answer; nothing was made permanent",
				NextStep: "what was changed while running stays in force on this instance; save again when the database is back", Cause: err,
			}
		case errors.Is(err, context.DeadlineExceeded):
			return &httpapi.Error{
				Status: http.StatusServiceUnavailable, Detail: "not done in time", NextStep: "look at the member's state (posp hsm show); then order it again", Cause: err,
			}
		}
		return err
	}
}
