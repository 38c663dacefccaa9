package console

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/registry"
)

// now is the clock of the tests.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fake is a registry with what a test puts into it.
type fake struct {
	views    []registry.View
	overview registry.Overview
	err      error
	asked    registry.Filter
}

func (f *fake) Overview(context.Context) (registry.Overview, error) { return f.overview, f.err }
func (f *fake) Terminals(_ context.Context, filter registry.Filter) ([]registry.View, error) {
	f.asked = filter
	return f.views[:min(len(f.views), filter.Limit)], f.err
}
func (f *fake) Terminal(_ context.Context, id string) (registry.View, error) {
	for _, v := range f.views {
		if v.ID == id {
			return v, f.err
		}
	}
	return registry.View{}, &registry.Refusal{Kind: registry.NotFound, Detail: "x", NextStep: "y"}
}
func (f *fake) Bindings(context.Context, string) ([]registry.Binding, error) {
	return []registry.Binding{{PSAM: "60000000000000000001", ValidFrom: now, Reason: "first", Actor: "li"}}, nil
}
func (f *fake) TerminalEvents(context.Context, string) ([]registry.Event, error) {
	return []registry.Event{{Event: "suspended", FromState: "active", ToState: "suspended", Actor: "li", At: now, Detail: json.RawMessage(`{"reason":"<script>","count":3,"psam_no":""}`)}}, nil
}
func (f *fake) SignOns(context.Context, string) ([]registry.SignOn, error) {
	return []registry.SignOn{{Version: 7, State: "expired", PIKKCV: "0123456789ABCDEF", MAKKCV: "89ABCDEF", MadeAt: now}}, nil
}

func serve(t *testing.T, f *fake) http.Handler {
	t.Helper()
	location, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Registry: f, Location: location, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	c.Routes(r)
	return r
}

func get(t *testing.T, h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func view(id string, at time.Time) registry.View {
	v := registry.View{
		Terminal:     registry.Terminal{ID: id, MerchantID: "104110000000001", State: "active", Profile: "unionpay", Algorithm: "tdes", MAKLength: 8, KeyLoad: "psam", CreatedAt: now, UpdatedAt: now},
		MerchantName: `Shop <b>&"`, MerchantState: "suspended", PSAM: "60000000000000000001", CardState: "in_service", KCV: "08D7B4FB629D0885", KeyState: registry.KeysOver, UnusedSignOns: 5, Looping: true,
	}
	if !at.IsZero() {
		v.LastSignOn = &at
	}
	return v
}

// TestEveryTextInBothLanguages: both tables have the same keys and the same verbs, no text is empty, and every key that a template or
// a list names exists.
func TestEveryTextInBothLanguages(t *testing.T) {
	t.Parallel()
	verb := regexp.MustCompile(`%[a-z]`)
	for key, en := range texts["en"] {
		zh, ok := texts["zh"][key]
		if !ok || strings.TrimSpace(zh) == "" || strings.TrimSpace(en) == "" {
			t.Errorf("%s: en %q, zh %q", key, en, zh)
		}
		if strings.Join(verb.FindAllString(en, -1), "") != strings.Join(verb.FindAllString(zh, -1), "") {
			t.Errorf("%s: other verbs: %q, %q", key, en, zh)
		}
	}
	for key := range texts["zh"] {
		if _, ok := texts["en"][key]; !ok {
			t.Errorf("%s is only in Chinese", key)
		}
	}
	used := regexp.MustCompile(`\bt "([a-z._]+)"`)
	found := 0
	for _, name := range []string{"layout", "terminals", "terminal", "fault"} {
		content, err := assets.ReadFile("assets/" + name + ".html")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range used.FindAllSubmatch(content, -1) {
			found++
			if _, ok := texts["en"][string(m[1])]; !ok {
				t.Errorf("%s.html uses %q, which has no text", name, m[1])
			}
		}
		// No word for people stands in a template itself.
		bare := regexp.MustCompile(`(?s)\{\{.*?\}\}|<!doctype html>|<pre>.*?</pre>|<code>.*?</code>|<[^>]*>`).ReplaceAllString(string(content), " ")
		for _, word := range strings.Fields(bare) {
			if !strings.ContainsAny(word, "·→←—") && word != "0" && word != "中文" && word != "English" && word != "/openapi.json" {
				t.Errorf("%s.html says %q itself", name, word)
			}
		}
	}
	if found < 60 {
		t.Errorf("%d texts used in templates", found)
	}
	groups := map[string][]string{
		"state": registry.TerminalStates(), "card": registry.CardStates(), "keys": keyChoices, "set": {"pending", "active", "grace", "ended", "expired"},
		"event": {"registered", "changed", "suspended", "resumed", "lost", "retired", "bound", "unbound"},
	}
	for group, values := range groups {
		for _, v := range values {
			if _, ok := texts["en"][group+"."+v]; !ok {
				t.Errorf("no text for %s %s", group, v)
			}
		}
	}
}

func TestLanguage(t *testing.T) {
	t.Parallel()
	h := serve(t, &fake{})
	tests := []struct {
		name, path string
		headers    []string
		want       string
	}{
		{"nothing asked for", "/", nil, "en"},
		{"link", "/?lang=zh", nil, "zh"},
		{"link over cookie", "/?lang=en", []string{"Cookie", "keyward_lang=zh"}, "en"},
		{"cookie", "/", []string{"Cookie", "keyward_lang=zh", "Accept-Language", "en"}, "zh"},
		{"cookie of no language", "/", []string{"Cookie", "keyward_lang=fr"}, "en"},
		{"browser", "/", []string{"Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8"}, "zh"},
		{"browser prefers English", "/", []string{"Accept-Language", "fr, zh;q=0.2, en-GB;q=0.7"}, "en"},
		{"browser with nonsense", "/", []string{"Accept-Language", "zh;q=x,,;"}, "en"},
		{"unknown link", "/?lang=xx", nil, "en"},
	}
	for _, test := range tests {
		w := get(t, h, test.path, test.headers...)
		if got := w.Header().Get("Content-Language"); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if set := w.Header().Get("Set-Cookie"); strings.Contains(test.path, "lang="+test.want) != strings.Contains(set, "keyward_lang="+test.want) {
			t.Errorf("%s: cookie %q", test.name, set)
		}
	}
	if body := get(t, h, "/?lang=zh&q=a%22b").Body.String(); !strings.Contains(body, `href="/?lang=en&amp;q=a%22b"`) {
		t.Error("the other language loses what was looked for")
	}
}

func TestTerminals(t *testing.T) {
	t.Parallel()
	f := &fake{overview: registry.Overview{Registered: 60, Active: 58, SignedOn: 40, Never: 3, Looping: 1}}
	f.overview.SignOns[23], f.overview.SignOns[22] = 8, 2
	for range pageSize + 1 {
		f.views = append(f.views, view("10000001", now.Add(-3*time.Minute)))
	}
	w := get(t, serve(t, f), "/?q=1000&state=active&keys=looping&after=10000000&lang=en")
	body := w.Body.String()
	for _, want := range []string{
		"<dd>60</dd>", "<dd>58</dd>", `href="/terminals/10000001"`, "Shop &lt;b&gt;&amp;&#34;", "merchant suspended", "60000000000000000001", "in service", "3 min ago",
		"2026-03-01 19:57:00", `datetime="2026-03-01T19:57:00&#43;08:00"`, "<code>08D7B4</code>", "signs on again and again", `value="1000"`, `<option value="active" selected>`,
		`<option value="looping" selected>`, `rel="next"`, "First page", "<caption>", `class="skip"`, `scope="col"`, `<svg`, "10 sign-ons, at most 8 in one hour", `data-running="Updates every 2 seconds"`, "Times: Asia/Shanghai",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(body, `class="loop"`); n != pageSize {
		t.Errorf("%d rows, want a page of %d", n, pageSize)
	}
	if strings.Contains(body, "08D7B4FB") {
		t.Error("the whole check value is shown")
	}
	if f.asked.Text != "1000" || f.asked.State != "active" || !f.asked.Looping || f.asked.After != "10000000" || f.asked.Limit != pageSize+1 {
		t.Errorf("asked for %+v", f.asked)
	}
	// Nothing comes from elsewhere or is written into the page: the policy allows neither.
	if csp := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	if found := regexp.MustCompile(`(?i)https?://|<script>|<style| style="| on[a-z]+="`).FindAllString(body, -1); len(found) > 0 {
		t.Errorf("in the page: %q", found)
	}
	get(t, serve(t, f), "/?state=nonsense&keys=never&q="+strings.Repeat("x", 100))
	if f.asked.State != "" || f.asked.Keys != registry.NeverSignsOn || len(f.asked.Text) != maxQuery {
		t.Errorf("asked for %+v", f.asked)
	}
}

func TestEmptyAndReload(t *testing.T) {
	t.Parallel()
	h := serve(t, &fake{})
	if body := get(t, h, "/?lang=en").Body.String(); !strings.Contains(body, "posv terminal add") || !strings.Contains(body, "issuer card issue") || strings.Contains(body, `http-equiv`) {
		t.Error("an empty registry does not say what to do")
	}
	if body := get(t, h, "/?lang=zh&q=x").Body.String(); !strings.Contains(body, "没有符合条件的终端") {
		t.Error("nothing found is not said")
	}
	if body := get(t, h, "/?refresh=1").Body.String(); !strings.Contains(body, `<meta http-equiv="refresh" content="5">`) || strings.Contains(body, "refresh.js") {
		t.Error("no reload without script")
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	h := serve(t, &fake{views: []registry.View{view("10000001", time.Time{})}})
	body := get(t, h, "/terminals/10000001?lang=en").Body.String()
	for _, want := range []string{"Terminal 10000001", "reason: &lt;script&gt;, count 3", "active → suspended", "<code>012345</code>", "expired unused", "valid now", "5 sign-ons in 10 minutes", "2026-03-01 20:00:00", "8 bytes"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	w := get(t, h, "/terminals/%3Cb%3E?lang=zh")
	if w.Code != 404 || !strings.Contains(w.Body.String(), "posv terminal add") || strings.Contains(w.Body.String(), "<b>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = get(t, serve(t, &fake{err: errors.New("hidden cause")}), "/?lang=en")
	if w.Code != 500 || !strings.Contains(w.Body.String(), "database does not answer") || strings.Contains(w.Body.String(), "hidden") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestStatic(t *testing.T) {
	t.Parallel()
	h := serve(t, &fake{})
	for name, kind := range types {
		w := get(t, h, "/static/"+name)
		if w.Code != 200 || w.Header().Get("Content-Type") != kind || w.Body.Len() == 0 || strings.Contains(w.Body.String(), "https://") {
			t.Errorf("%s: %d %s", name, w.Code, w.Header())
		}
	}
	for _, name := range []string{"layout.html", "..%2fconsole.go", "x"} {
		if w := get(t, h, "/static/"+name); w.Code != 404 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	tests := map[time.Duration]string{
		-time.Hour: "just now", 4 * time.Second: "just now", 119 * time.Second: "119 s ago", 2 * time.Minute: "2 min ago", 119 * time.Minute: "119 min ago", 47 * time.Hour: "47 h ago", 49 * time.Hour: "2 days ago",
	}
	for d, want := range tests {
		at := now.Add(-d)
		if got := ago("en", now, &at); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	if got := ago("en", now, (*time.Time)(nil)); got != "" {
		t.Errorf("never: %q", got)
	}
}
