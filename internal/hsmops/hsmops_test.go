package hsmops_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmlist"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/httpapi/httpapitest"
)

// fixture is an interface over a cluster in memory, with mutual TLS. li.na is an operator, posv a relay, issuer another service.
type fixture struct {
	cluster *hsmopstest.Cluster
	list    *hsmopstest.List
	handler *hsmops.Handler
	router  chi.Router
	*hsmopstest.Listener
	log *bytes.Buffer
}

func newFixture(t *testing.T, change func(*hsmops.Options)) *fixture {
	t.Helper()
	f := &fixture{cluster: hsmopstest.NewCluster(), log: &bytes.Buffer{}}
	f.list = &hsmopstest.List{Cluster: f.cluster}
	opt := hsmops.Options{
		Cluster: f.cluster, List: f.list, Operators: []string{"li.na", "wang.wei"}, Relays: []string{"posv"},
		Log: slog.New(slog.NewTextHandler(f.log, nil)),
	}
	if change != nil {
		change(&opt)
	}
	var err error
	if f.handler, err = hsmops.New(opt); err != nil {
		t.Fatal(err)
	}
	if f.router, err = httpapi.NewRouter(slog.New(slog.DiscardHandler), hsmops.OpenAPI, nil); err != nil {
		t.Fatal(err)
	}
	f.handler.Mount(f.router)
	f.Listener = hsmopstest.Listen(t, f.router, "li.na", "posv", "issuer")
	return f
}

// status gives the status of a refusal, 200 for none, 0 for no answer.
func status(err error) int {
	var refused *httpapi.Refusal
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &refused):
		return refused.Status
	}
	return 0
}

func TestRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	httpapitest.CheckRoutes(t, f.router, hsmops.OpenAPI)
}

func TestDocumentMerges(t *testing.T) {
	t.Parallel()
	base := []byte(`{"openapi":"3.1.0","paths":{"/own":{},"/v1/hsm/engine":{"kept":true}},"components":{"schemas":{"Problem":{"kept":true}}}}`)
	text, err := hsmops.Document(base, []byte(`{"paths":{"/v1/hsm/drills":{}},"components":{"schemas":{"Drill":{}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"/own"`, `"/v1/hsm/members/{name}/state"`, `"/v1/hsm/drills"`, `"HSMStatus"`, `"Drill"`} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s is missing", want)
		}
	}
	if n := bytes.Count(text, []byte(`"kept": true`)); n != 2 || bytes.Contains(text, []byte(`"/livez"`)) {
		t.Errorf("the listener's own parts were replaced, or health routes added: %d", n)
	}
	for _, bad := range []string{"", "{}", `{"paths":{}}`, `{"paths":{},"components":{}}`} {
		if _, err := hsmops.Document([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestOperations orders each change and looks at what the cluster was told, and in whose name.
func TestOperations(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *hsmops.Options) {
		o.Complete = func(s member.Spec) member.Spec { s.Domain = "dev"; return s }
	})
	c := f.Client(t, "li.na")
	one, why := 1, hsmops.Order{Reason: "test", Force: true}
	var (
		s       member.Status
		engine  member.Engine
		cleared hsmops.Cleared
		version hsmlist.Version
		probe   member.ProbeResult
	)
	for _, op := range []struct {
		path    string
		in, out any
		want    string
	}{
		{"/members", hsmops.AddOrder{Order: why, Spec: member.Spec{Name: "hsm4", Addr: "127.0.0.1:15004"}}, &s, "add hsm4 dev 127.0.0.1:15004 by li.na (test) forced"},
		{"/members/hsm1/state", hsmops.StateOrder{State: member.Draining}, &s, "state hsm1 draining by li.na"},
		{"/members/hsm1/change", hsmops.ChangeOrder{Order: why, Change: member.Change{Priority: &one}}, &s, "modify hsm1 by li.na (test) forced"},
		{"/members/hsm1/fault", hsmops.FaultOrder{Kind: member.FaultSlow, For: member.Duration(1e9)}, &s, "fault hsm1 slow by li.na"},
		{"/members/hsm1/fault/clear", nil, &s, "clear hsm1 by li.na"},
		{"/members/hsm2/remove", why, nil, "remove hsm2 by li.na (test) forced"},
		{"/engine/stop", why, &engine, "engine stop by li.na (test) forced"},
		{"/engine/start", nil, &engine, "engine start by li.na"},
		{"/monitoring", hsmops.SwitchOrder{On: false}, &engine, "monitoring false by li.na"},
		{"/journal", hsmops.SwitchOrder{On: true}, &engine, "journal true by li.na"},
		{"/queues/clear", hsmops.ClearOrder{Kind: member.Requests}, &cleared, "clear-queue dev requests by li.na"},
	} {
		if err := c.Do(t.Context(), op.path, op.in, op.out); err != nil {
			t.Errorf("%s: %v", op.path, err)
			continue
		}
		if calls := f.cluster.Calls(); calls[len(calls)-1] != op.want {
			t.Errorf("%s: the cluster was told %q, want %q", op.path, calls[len(calls)-1], op.want)
		}
	}
	if err := c.Do(t.Context(), "/members/hsm1/probe", nil, &probe); err != nil || !probe.OK || probe.Device.Serial != "SIM00001" {
		t.Errorf("probe: %+v, %v", probe, err)
	}
	if err := c.Do(t.Context(), "/save", nil, &version); err != nil || version.Version != 1 || version.SavedBy != "li.na" || len(version.Members) != 3 {
		t.Errorf("save: %+v, %v", version, err)
	}
	if cleared.Cleared != 2 || engine.Name != "online" || !engine.Journal || s.Spec.Name != "hsm1" {
		t.Errorf("answers: %+v %+v %+v", cleared, engine, s)
	}
	if !strings.Contains(f.log.String(), "HSM operation done") || !strings.Contains(f.log.String(), "by=li.na") || !strings.Contains(f.log.String(), "member=hsm2") {
		t.Errorf("the log does not tell who did what:\n%s", f.log)
	}
}

func TestReading(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	c := f.Client(t, "issuer") // whoever reaches the listener may read
	if err := f.Client(t, "li.na").Do(t.Context(), "/monitoring", hsmops.SwitchOrder{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Client(t, "li.na").Do(t.Context(), "/members/hsm3/state", hsmops.StateOrder{State: member.Standby}, nil); err != nil {
		t.Fatal(err)
	}
	var o hsmops.Overview
	if err := c.Get(t.Context(), "", nil, &o); err != nil || len(o.Members) != 3 || o.Engine.Name != "online" || o.List == nil || !o.List.Unsaved || o.Now.IsZero() {
		t.Errorf("overview: %+v, %v", o, err)
	}
	var s member.Status
	if err := c.Get(t.Context(), "/members/hsm1", nil, &s); err != nil || s.Device.Firmware != "0001-0900" {
		t.Errorf("member: %+v, %v", s, err)
	}
	var queues hsmops.Page[member.Queues]
	if err := c.Get(t.Context(), "/queues", nil, &queues); err != nil || queues.Items[0].Requests[1].Waiting != 2 {
		t.Errorf("queues: %+v, %v", queues, err)
	}
	var history hsmops.Page[member.Switch]
	for query, want := range map[string]string{"": "2 1", "limit=1": "2", "after=1": "2", "after=2": "", "member=hsm3": "2"} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		history.Items = nil
		if err := c.Get(t.Context(), "/history", q, &history); err != nil {
			t.Errorf("history %s: %v", query, err)
		}
		var got []string
		for _, s := range history.Items {
			got = append(got, fmt.Sprint(s.Seq))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("history %q: %v, want %s", query, got, want)
		}
	}
	for path, want := range map[string]int{
		"/members": 200, "/engine": 200, "/list": 200, "/list/versions": 200, "/history/all": 200, "/members/none": 404, "/history?limit=0": 400,
		"/history?limit=501": 400, "/history?after=-1": 400, "/history/all?since=yesterday": 400, "/history/all?member=%00": 400, "/nothing": 404,
	} {
		path, query, _ := strings.Cut(path, "?")
		q, _ := url.ParseQuery(query) // written above
		var raw json.RawMessage
		if got := status(c.Get(t.Context(), path, q, &raw)); got != want {
			t.Errorf("%s?%s answers %d, want %d", path, query, got, want)
		}
	}
}

// TestRefusals: what the cluster refuses arrives with its kind and its next step, and changes nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for kind, want := range map[member.RefusalKind]int{member.NotFound: 404, member.Conflict: 409, member.Unsafe: 409, member.Invalid: 422} {
		f := newFixture(t, nil)
		f.cluster.Refuse = member.Refuse(kind, "do something else", "hsm1 is needed")
		err := f.Client(t, "li.na").Do(t.Context(), "/members/hsm1/remove", nil, nil)
		if status(err) != want || !strings.Contains(err.Error(), "hsm1 is needed; do something else") {
			t.Errorf("%s: %v", kind, err)
		}
		if n := strings.Count(f.log.String(), "hsm1 is needed"); n != 1 {
			t.Errorf("%s: the refusal stands %d times in the log:\n%s", kind, n, f.log)
		}
	}
	f := newFixture(t, func(o *hsmops.Options) {
		o.Check = func(s member.Spec) error { return errors.New("the line to " + s.Name + " is plain") }
	})
	c := f.Client(t, "li.na")
	long := hsmops.Order{Reason: strings.Repeat("x", 501)}
	base := int64(7)
	for _, test := range []struct {
		path string
		in   any
		want int
		text string
	}{
		{"/members", hsmops.AddOrder{Spec: member.Spec{Name: "hsm4"}}, 422, "the line to hsm4 is plain"},
		{"/members/none/remove", nil, 404, "posp hsm list"},
		{"/members/hsm1/state", map[string]any{"state": 1}, 400, "state has the wrong type"},
		{"/members/hsm1/state", map[string]any{"status": "working"}, 400, "unknown member"},
		{"/members/hsm1/change", hsmops.ChangeOrder{}, 422, "changes nothing"},
		{"/members/hsm1/fault", hsmops.FaultOrder{Kind: member.FaultRefuse}, 422, "needs an end"},
		{"/members/hsm1/remove", long, 422, "longer than 500"},
		{"/members/hsm1/remove", hsmops.Order{Reason: "a\nafter hsm2 by li"}, 422, "as one line of text"},
		{"/engine/stop", hsmops.Order{Reason: "\x1b[2J"}, 422, "as one line of text"},
		{"/queues/clear", hsmops.ClearOrder{Domain: "none", Kind: member.Requests}, 404, "LMK domain none"},
		{"/save", hsmops.SaveOrder{Base: &base}, 409, "was saved by somebody"},
		{"/members", map[string]any{"spec": map[string]any{"name": strings.Repeat("x", 2<<20)}}, 413, "longer than"},
	} {
		if err := c.Do(t.Context(), test.path, test.in, nil); status(err) != test.want || !strings.Contains(fmt.Sprint(err), test.text) {
			t.Errorf("%s: %v, want %d %s", test.path, err, test.want, test.text)
		}
	}
	f.list.Err = hsmlist.ErrAway
	if err := c.Do(t.Context(), "/save", nil, nil); status(err) != 503 || !strings.Contains(err.Error(), "nothing was made permanent") {
		t.Errorf("save without a database: %v", err)
	}
	if calls := f.cluster.Calls(); len(calls) != 0 {
		t.Errorf("something was done: %q", calls)
	}
}

// TestOnlyOperators (C13): a stranger has no connection; a plain listener, another service and a relay for somebody else get 403 with what to
// do, and nothing is done; a relay for an operator passes with both names.
func TestOnlyOperators(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if err := f.Client(t, "stranger").Get(t.Context(), "", nil, nil); !errors.Is(err, httpapi.ErrNoAnswer) {
		t.Errorf("a stranger: %v", err)
	}
	err := f.Client(t, "issuer").Do(t.Context(), "/engine/stop", nil, nil)
	if status(err) != 403 || !strings.Contains(err.Error(), `"issuer" is not that of an operator`) || !strings.Contains(err.Error(), "hsm_operation.operators") {
		t.Errorf("another service: %v", err)
	}
	plain := httptest.NewServer(f.router)
	defer plain.Close()
	p, err := hsmops.NewClient(hsmops.ClientConfig{URL: plain.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Get(t.Context(), "/members", nil, nil); err != nil {
		t.Errorf("reading on a plain listener: %v", err)
	}
	if err := p.Do(t.Context(), "/engine/stop", nil, nil); status(err) != 403 || !strings.Contains(err.Error(), "listener of hsm_operation") {
		t.Errorf("a change on a plain listener: %v", err)
	}
	relay := func(operator string) (int, string) {
		resp, err := f.Client(t, "posv").Relay(t.Context(), http.MethodPost, "/members/hsm1/remove", "", operator, "", []byte(`{"reason":"r"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for _, operator := range []string{"", "posv", "zhang.min"} {
		if code, text := relay(operator); code != 403 || !strings.Contains(text, "not an operator") {
			t.Errorf("relay for %q: %d %s", operator, code, text)
		}
	}
	if calls := f.cluster.Calls(); len(calls) != 0 {
		t.Errorf("something was done: %q", calls)
	}
	if !strings.Contains(f.log.String(), "not an operator") || !strings.Contains(f.log.String(), "certificate=issuer") {
		t.Errorf("the log does not tell who was refused:\n%s", f.log)
	}
	if code, text := relay("wang.wei"); code != 204 {
		t.Errorf("relay for an operator: %d %s", code, text)
	}
	if calls := f.cluster.Calls(); len(calls) != 1 || calls[0] != "remove hsm1 by wang.wei via posv (r)" {
		t.Errorf("the cluster was told %q", calls)
	}
	// What an operator says of himself in a header counts for nothing.
	resp, err := f.Client(t, "li.na").Relay(t.Context(), http.MethodPost, "/engine/stop", "", "wang.wei", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if calls := f.cluster.Calls(); calls[1] != "engine stop by li.na" {
		t.Errorf("the cluster was told %q", calls)
	}
}

// TestReaders: where readers are named, they, operators and relays may look, and nobody else.
func TestReaders(t *testing.T) {
	t.Parallel()
	for readers, want := range map[string]int{"issuer": 200, "posp": 403} {
		f := newFixture(t, func(o *hsmops.Options) { o.Readers = []string{readers} })
		if got := status(f.Client(t, "issuer").Get(t.Context(), "/engine", nil, nil)); got != want {
			t.Errorf("readers %s: %d, want %d", readers, got, want)
		}
		for _, name := range []string{"li.na", "posv"} {
			if err := f.Client(t, name).Get(t.Context(), "/engine", nil, nil); err != nil {
				t.Errorf("readers %s: %s: %v", readers, name, err)
			}
		}
	}
}

// TestOnce: the same Idempotency-Key with the same order is done once; another operator's same key is another key.
func TestOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	send := func(who, operator, body string) int {
		resp, err := f.Client(t, who).Relay(t.Context(), http.MethodPost, "/members/hsm1/state", "", operator, "key-1", []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	for i, want := range []int{200, 200, 422, 200} {
		who, operator, body := "li.na", "", `{"state":"standby"}`
		switch i {
		case 2:
			body = `{"state":"working"}`
		case 3:
			who, operator = "posv", "wang.wei"
		}
		if got := send(who, operator, body); got != want {
			t.Errorf("request %d answers %d, want %d", i, got, want)
		}
	}
	if calls := f.cluster.Calls(); len(calls) != 2 {
		t.Errorf("done: %q", calls)
	}
}

// TestMore: another part adds routes behind the same guard.
func TestMore(t *testing.T) {
	t.Parallel()
	var by string
	f := newFixture(t, func(o *hsmops.Options) {
		o.List = nil
		o.More = []func(hsmops.Routes){func(r hsmops.Routes) {
			r.Read("/drills", func(http.ResponseWriter, *http.Request) error { return nil })
			r.Write("/drills", func(_ http.ResponseWriter, r *http.Request) error { by = hsmops.ActOf(r, "", false).By; return nil })
		}}
	})
	if err := f.Client(t, "issuer").Do(t.Context(), "/drills", nil, nil); status(err) != 403 {
		t.Errorf("not an operator: %v", err)
	}
	if err := f.Client(t, "li.na").Do(t.Context(), "/drills", nil, nil); err != nil || by != "li.na" {
		t.Errorf("by %q, %v", by, err)
	}
	for _, path := range []string{"/list", "/list/versions", "/history/all"} {
		if err := f.Client(t, "li.na").Get(t.Context(), path, nil, nil); status(err) != 404 || !strings.Contains(err.Error(), "hsm.list.shared") {
			t.Errorf("%s without a list: %v", path, err)
		}
	}
}

func TestClientConfig(t *testing.T) {
	t.Parallel()
	cert, key := httpapitest.Certificate(t, "x")
	for name, test := range map[string]struct {
		cfg  hsmops.ClientConfig
		want string
	}{
		"no address": {hsmops.ClientConfig{}, "must look like"}, "no files": {hsmops.ClientConfig{URL: "https://a:1"}, "needs cert"},
		"half":      {hsmops.ClientConfig{URL: "https://a:1", Cert: cert, Key: key}, "belong together"},
		"plain":     {hsmops.ClientConfig{URL: "http://a:1", Cert: cert, Key: key, CA: cert}, "write https"},
		"no scheme": {hsmops.ClientConfig{URL: "a:1"}, "must look like"},
		"no file":   {hsmops.ClientConfig{URL: "https://a:1", Cert: "/none", Key: key, CA: cert}, "/none"},
	} {
		if _, err := hsmops.NewClient(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
