// Package console makes the pages for people: the terminals with state and last sign-on, and one terminal with its history. The
// pages are made on the server in Chinese or English, need nothing from elsewhere, work without script, and show no secret.
package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/registry"
)

//go:embed assets
var assets embed.FS

const (
	// pageSize is a screen or two of terminals.
	pageSize = 50
	// maxQuery bounds a text that is looked for.
	maxQuery = 64
	// policy allows what is embedded here and nothing else.
	policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

// Registry is what the pages read.
type Registry interface {
	Overview(ctx context.Context) (registry.Overview, error)
	Terminals(ctx context.Context, f registry.Filter) ([]registry.View, error)
	Terminal(ctx context.Context, id string) (registry.View, error)
	Bindings(ctx context.Context, terminal string) ([]registry.Binding, error)
	TerminalEvents(ctx context.Context, id string) ([]registry.Event, error)
	SignOns(ctx context.Context, terminal string) ([]registry.SignOn, error)
}

var _ Registry = (*registry.Store)(nil)

// Options are all required.
type Options struct {
	Registry Registry
	Location *time.Location // of the times shown
	Now      func() time.Time
	Log      *slog.Logger
}

// Console serves the pages.
type Console struct {
	opt   Options
	pages map[string]*template.Template // by name and language
}

// New reads the embedded templates.
func New(opt Options) (*Console, error) {
	c := &Console{opt: opt, pages: map[string]*template.Template{}}
	for lang := range texts {
		for _, name := range []string{"terminals", "terminal", "fault"} {
			t, err := template.New("layout.html").Funcs(c.functions(lang)).ParseFS(assets, "assets/layout.html", "assets/"+name+".html")
			if err != nil {
				return nil, fmt.Errorf("console page %s: %w", name, err)
			}
			c.pages[name+lang] = t
		}
	}
	return c, nil
}

// Routes mounts the pages.
func (c *Console) Routes(r chi.Router) {
	r.Get("/", c.page(c.terminals))
	r.Get("/terminals/{terminal_id}", c.page(c.terminal))
	r.Get("/static/{file}", static)
}

// page is what a template gets.
type page struct {
	Lang     string
	Other    map[string]string // link to this page in each language
	Title    string
	Now      time.Time
	Location string
	Data     any
}

// answer is what a handler gives: the name of a template and its data.
type answer struct {
	status      int
	name, title string
	data        any
}

// page runs a handler, and shows its faults as a page.
func (c *Console) page(h func(r *http.Request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		lang := language(w, r)
		a, err := h(r)
		if err != nil {
			a = answer{status: http.StatusInternalServerError, name: "fault", title: "fault.title", data: "fault.text"}
			var refusal *registry.Refusal
			if errors.As(err, &refusal) && refusal.Kind == registry.NotFound {
				a = answer{status: http.StatusNotFound, name: "fault", title: "missing.title", data: "missing.text"}
			} else if r.Context().Err() == nil || errors.Is(context.Cause(r.Context()), context.DeadlineExceeded) {
				c.opt.Log.ErrorContext(r.Context(), "console page failed", "id", httpapi.RequestID(r.Context()), "error", err)
			}
		}
		c.write(w, r, lang, a)
	}
}

func (c *Console) write(w http.ResponseWriter, r *http.Request, lang string, a answer) {
	other, query := map[string]string{}, r.URL.Query()
	for l := range texts {
		query.Set("lang", l)
		other[l] = (&url.URL{Path: r.URL.Path, RawQuery: query.Encode()}).String()
	}
	var b bytes.Buffer
	err := c.pages[a.name+lang].Execute(&b, page{
		Lang: lang, Other: other, Title: text(lang, a.title), Now: c.opt.Now(), Location: c.opt.Location.String(), Data: a.data,
	})
	if err != nil { // a fault of the program: nothing was sent yet
		httpapi.WriteError(w, r, fmt.Errorf("console page %s: %w", a.name, err))
		return
	}
	h := w.Header()
	secure(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang)
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "Cookie, Accept-Language")
	w.WriteHeader(a.status)
	_, _ = w.Write(b.Bytes()) // fails only when the client is gone
}

func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// types of the files that are served as they are.
var types = map[string]string{"style.css": "text/css; charset=utf-8", "refresh.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}

func static(w http.ResponseWriter, r *http.Request) {
	name := chi.URLParam(r, "file")
	kind, ok := types[name]
	if !ok {
		httpapi.NotFound(w, r)
		return
	}
	content, err := assets.ReadFile("assets/" + name)
	if err != nil {
		httpapi.WriteError(w, r, err)
		return
	}
	secure(w.Header())
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache") // a new version of posv must be seen at once
	_, _ = w.Write(content)                     //nolint:gosec // The content is a file of this program; the request only chooses one of the table.
}

// terminalsData is the list with what was asked for.
type terminalsData struct {
	Overview  registry.Overview
	Chart     chart
	Terminals []registry.View
	Q         string
	State     string
	Keys      string
	Filtered  bool
	First     string // link to the first page, empty on it
	Next      string // link to the next page, empty on the last
	Refresh   bool   // reload without script
	Toggle    string // link that switches the reload without script
}

func (c *Console) terminals(r *http.Request) (answer, error) {
	q := r.URL.Query()
	d := terminalsData{Q: cut(q.Get("q")), State: known(q.Get("state"), registry.TerminalStates()), Refresh: q.Get("refresh") == "1"}
	f := registry.Filter{Text: d.Q, State: d.State, Page: registry.Page{After: cut(q.Get("after")), Limit: pageSize + 1}}
	switch d.Keys = known(q.Get("keys"), keyChoices); d.Keys {
	case "looping":
		f.Looping = true
	default:
		f.Keys = registry.KeyState(d.Keys)
	}
	d.Filtered = d.Q != "" || d.State != "" || d.Keys != ""
	var err error
	if d.Overview, err = c.opt.Registry.Overview(r.Context()); err != nil {
		return answer{}, err
	}
	if d.Terminals, err = c.opt.Registry.Terminals(r.Context(), f); err != nil {
		return answer{}, err
	}
	d.Chart = newChart(d.Overview.SignOns, c.opt.Now().In(c.opt.Location))
	link := func(after string, refresh bool) string {
		v := url.Values{}
		for name, value := range map[string]string{"q": d.Q, "state": d.State, "keys": d.Keys, "after": after} {
			if value != "" {
				v.Set(name, value)
			}
		}
		if refresh {
			v.Set("refresh", "1")
		}
		if len(v) == 0 {
			return "/"
		}
		return "/?" + v.Encode()
	}
	if f.After != "" {
		d.First = link("", d.Refresh)
	}
	if len(d.Terminals) > pageSize {
		d.Terminals = d.Terminals[:pageSize]
		d.Next = link(d.Terminals[pageSize-1].ID, d.Refresh)
	}
	d.Toggle = link(f.After, !d.Refresh)
	return answer{http.StatusOK, "terminals", "terminals.title", d}, nil
}

// keyChoices are the values of the filter on working keys.
var keyChoices = []string{string(registry.KeysInUse), string(registry.KeysUnused), string(registry.KeysOver), string(registry.NeverSignsOn), "looping"}

// terminalData is one terminal with its history.
type terminalData struct {
	registry.View
	Bindings []registry.Binding
	Events   []registry.Event
	SignOns  []registry.SignOn
}

func (c *Console) terminal(r *http.Request) (answer, error) {
	ctx, id := r.Context(), chi.URLParam(r, "terminal_id")
	var d terminalData
	var err error
	if d.View, err = c.opt.Registry.Terminal(ctx, id); err != nil {
		return answer{}, err
	}
	if d.Bindings, err = c.opt.Registry.Bindings(ctx, id); err != nil {
		return answer{}, err
	}
	if d.Events, err = c.opt.Registry.TerminalEvents(ctx, id); err != nil {
		return answer{}, err
	}
	if d.SignOns, err = c.opt.Registry.SignOns(ctx, id); err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, "terminal", "terminal.title", d}, nil
}

// cut bounds what a person looks for.
func cut(text string) string {
	if runes := []rune(text); len(runes) > maxQuery {
		return string(runes[:maxQuery])
	}
	return text
}

// known drops a choice that the form does not offer.
func known(value string, choices []string) string {
	for _, c := range choices {
		if c == value {
			return value
		}
	}
	return ""
}

// chart is the sign-ons of the last hours as bars, drawn in a box of chartWidth by chartHeight.
type chart struct {
	Bars  []bar
	Total int
	Max   int
	From  time.Time // begin of the first hour shown
}

type bar struct {
	X, Y, Width, Height int
	N                   int
	From, To            time.Time
}

const (
	chartHeight = 44
	barWidth    = 10
	barGap      = 3
)

func newChart(hours [registry.Hours]int, now time.Time) chart {
	c := chart{From: now.Add(-registry.Hours * time.Hour)}
	for _, n := range hours {
		c.Total += n
		c.Max = max(c.Max, n)
	}
	for i, n := range hours {
		height := 1 // an hour without sign-ons shows as a line
		if n > 0 {
			height = max(3, n*chartHeight/c.Max)
		}
		from := c.From.Add(time.Duration(i) * time.Hour)
		c.Bars = append(c.Bars, bar{X: i * (barWidth + barGap), Y: chartHeight - height, Width: barWidth, Height: height, N: n, From: from, To: from.Add(time.Hour)})
	}
	return c
}

// Width is that of the drawing.
func (c chart) Width() string { return strconv.Itoa(len(c.Bars)*(barWidth+barGap) - barGap) }
