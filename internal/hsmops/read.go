package hsmops

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmlist"
	"github.com/keyward/keyward/internal/httpapi"
)

// defaultPage is the length of a list whose reader asks for none.
const defaultPage = 100

// Overview is what GET /v1/hsm answers: everything that a screen of the whole group needs, as of one moment.
type Overview struct {
	Now     time.Time       `json:"now"` // the clock of the instance: times below are to be read against it
	Engine  member.Engine   `json:"engine"`
	Members []member.Status `json:"members"`        // by domain, priority and name
	List    *hsmlist.Status `json:"list,omitempty"` // left out where no list is shared
}

// Page is a list in an answer.
type Page[T any] struct {
	Items []T `json:"items"`
}

func (h *Handler) reads(r Routes) {
	c := h.opt.Cluster
	r.Read("", func(w http.ResponseWriter, req *http.Request) error {
		o := Overview{Now: h.opt.Now(), Engine: c.Engine(), Members: sorted(c.Members())}
		if h.opt.List != nil {
			s := h.opt.List.Status()
			o.List = &s
		}
		httpapi.WriteJSON(w, req, http.StatusOK, o)
		return nil
	})
	r.Read("/engine", func(w http.ResponseWriter, req *http.Request) error {
		httpapi.WriteJSON(w, req, http.StatusOK, c.Engine())
		return nil
	})
	r.Read("/members", func(w http.ResponseWriter, req *http.Request) error { return page(w, req, sorted(c.Members())) })
	r.Read("/members/{name}", func(w http.ResponseWriter, req *http.Request) error {
		return h.answerMember(w, req, http.StatusOK, chi.URLParam(req, "name"))
	})
	r.Read("/queues", func(w http.ResponseWriter, req *http.Request) error { return page(w, req, c.Queues()) })
	r.Read("/history", h.history)
	r.Read("/history/all", h.historyOfAll)
	r.Read("/list", func(w http.ResponseWriter, req *http.Request) error {
		if h.opt.List == nil {
			return notShared()
		}
		httpapi.WriteJSON(w, req, http.StatusOK, h.opt.List.Status())
		return nil
	})
	r.Read("/list/versions", h.versions)
}

// sorted orders members as people look for them.
func sorted(list []member.Status) []member.Status {
	slices.SortStableFunc(list, func(a, b member.Status) int {
		switch {
		case a.Spec.Domain != b.Spec.Domain:
			return compare(a.Spec.Domain, b.Spec.Domain)
		case a.Spec.Priority != b.Spec.Priority:
			return a.Spec.Priority - b.Spec.Priority
		}
		return compare(a.Spec.Name, b.Spec.Name)
	})
	return list
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func page[T any](w http.ResponseWriter, r *http.Request, items []T) error {
	if items == nil {
		items = []T{}
	}
	httpapi.WriteJSON(w, r, http.StatusOK, Page[T]{items})
	return nil
}

func (h *Handler) answerMember(w http.ResponseWriter, r *http.Request, status int, name string) error {
	s, err := h.opt.Cluster.Member(name)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, status, s)
	return nil
}

// history is this instance's, from memory: the newest first, or with after those that follow, in their order.
func (h *Handler) history(w http.ResponseWriter, r *http.Request) error {
	limit, after, err := window(r.URL.Query())
	if err != nil {
		return err
	}
	name := r.URL.Query().Get("member")
	depth := limit
	if after > 0 || name != "" {
		depth = maxDepth // the ring is bounded; what does not fit the question is left out below
	}
	var out []member.Switch
	for _, s := range h.opt.Cluster.History(depth) {
		if s.Seq > uint64(after) && (name == "" || s.Member == name) {
			out = append(out, s)
		}
	}
	if after > 0 {
		slices.Reverse(out)
	}
	return page(w, r, out[:min(len(out), limit)])
}

// maxDepth is more than any cluster's ring holds.
const maxDepth = 1 << 20

// historyOfAll is that of all instances, from the database.
func (h *Handler) historyOfAll(w http.ResponseWriter, r *http.Request) error {
	if h.opt.List == nil {
		return notShared()
	}
	f, err := FilterOf(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.opt.List.History(r.Context(), f)
	if err != nil {
		return err
	}
	return page(w, r, list)
}

// FilterOf reads the query of a history: instance, group, member, since, after and limit.
func FilterOf(q url.Values) (hsmlist.Filter, error) {
	f := hsmlist.Filter{Group: q.Get("group"), Instance: q.Get("instance"), Member: q.Get("member")}
	for _, text := range []string{f.Instance, f.Group, f.Member} {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) { // PostgreSQL takes neither
			return f, invalid("instance, group and member are names", "write them as the history shows them")
		}
	}
	var err error
	if f.Limit, f.After, err = window(q); err != nil {
		return f, err
	}
	if since := q.Get("since"); since != "" {
		if f.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return f, invalid("since is not a time", "write it like 2026-01-31T08:00:00+08:00")
		}
	}
	return f, nil
}

// window reads limit and after.
func window(q url.Values) (limit int, after int64, err error) {
	limit = defaultPage
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > hsmlist.MaxPage {
			return 0, 0, invalid(fmt.Sprintf("limit must be a number from 1 to %d", hsmlist.MaxPage), "use after for what follows")
		}
	}
	if text := q.Get("after"); text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			return 0, 0, invalid("after must be the number of an entry", "use the number of the last entry that you have")
		}
	}
	return limit, after, nil
}

func (h *Handler) versions(w http.ResponseWriter, r *http.Request) error {
	if h.opt.List == nil {
		return notShared()
	}
	limit, _, err := window(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.opt.List.Versions(r.Context(), limit)
	if err != nil {
		return err
	}
	return page(w, r, list)
}

func invalid(detail, next string) error {
	return &httpapi.Error{Status: http.StatusBadRequest, Detail: detail, NextStep: next}
}

func notShared() error {
	return &httpapi.Error{
		Status: http.StatusNotFound, Detail: "this service shares no member list: its configuration file rules",
		NextStep: "set hsm.list.shared: true, or change the configuration file",
	}
}
