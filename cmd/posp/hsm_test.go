package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/httpapi"
)

// operated is a running interface over a cluster in memory, with a client file for an operator.
type operated struct {
	cluster  *hsmopstest.Cluster
	listener *hsmopstest.Listener
	config   string
}

func newOperated(t *testing.T) *operated {
	t.Helper()
	o := &operated{cluster: hsmopstest.NewCluster()}
	h, err := hsmops.New(hsmops.Options{Cluster: o.cluster, List: &hsmopstest.List{Cluster: o.cluster}, Operators: []string{"li.na"}})
	if err != nil {
		t.Fatal(err)
	}
	router, err := httpapi.NewRouter(slog.New(slog.DiscardHandler), hsmops.OpenAPI, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Mount(router)
	o.listener = hsmopstest.Listen(t, router, "li.na", "posp")
	o.config = o.file(t, "li.na")
	return o
}

// file writes a client file for a person.
func (o *operated) file(t *testing.T, name string) string {
	t.Helper()
	c := o.listener.Config(name)
	path := filepath.Join(t.TempDir(), "hsm.yaml")
	text := fmt.Sprintf("url: %s\ncert: %s\nkey: %s\nca: %s\n", c.URL, c.Cert, c.Key, c.CA)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// posp runs the command and gives exit code, output and errors.
func (o *operated) posp(args ...string) (int, string, string) {
	var out, errs bytes.Buffer
	code := run(append([]string{"hsm", "--config", o.config}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// TestHSMCommands runs every command and looks at exit code, output and what the cluster was told.
func TestHSMCommands(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	for _, test := range []struct {
		args string
		code int
		want string // in output or errors
		told string // the last change that was ordered
	}{
		{"list", 0, "hsm1  working     1  ####......  41%       3/96    120  2.1 ms  2686047444912422  0001-0900  SIM00001  1h00m", ""},
		{"list", 0, "LMK check value 1111111111111111, the domain has 2686047444912422", ""},
		{"ls --output json", 0, `"max_priority": 16`, ""},
		{"show hsm3", 0, "serial number    SIM00003", ""},
		{"show none", exitNotFound, "there is no member none; see posp hsm list", ""},
		{"queues", 0, "sign_on", ""},
		{"engine", 0, "no saturation in sight", ""},
		{"saved", 0, "VERSION", ""},
		{"state hsm2 working --reason why", 0, "hsm2 is working.", "state hsm2 working by li.na (why)"},
		{"drain hsm2 --force", 0, "hsm2 is draining. On this instance, until it restarts", "state hsm2 draining by li.na forced"},
		{"priority hsm2 3", 0, "priority 3", "modify hsm2 by li.na"},
		{"weight hsm2 2", 0, "weight 2", "modify hsm2 by li.na"},
		{"rated hsm2 0", 0, "rating unknown", "modify hsm2 by li.na"},
		{"rated hsm2 2500", 0, "rated 2500 per second", "modify hsm2 by li.na"},
		{"probe-command hsm2 B2", 0, "probe command B2", "modify hsm2 by li.na"},
		{"probe-command hsm2 default", 0, "probe command of the driver", "modify hsm2 by li.na"},
		{"priority hsm2 high", exitUsage, "must be a whole number", "modify hsm2 by li.na"},
		{"probe hsm1", 0, "hsm1 passed after 1.5 ms. It is working.", "modify hsm2 by li.na"},
		{"probe hsm3", exitFailure, "hsm3 has not passed", "modify hsm2 by li.na"},
		{"add hsm4 127.0.0.1:15004 --domain dev --set header_length=4 --private", 0, "hsm4 is added and working.", "add hsm4 dev 127.0.0.1:15004 by li.na"},
		{"add hsm4 127.0.0.1:15004", exitRefused, "there is a member hsm4 already; choose another name", "add hsm4 dev 127.0.0.1:15004 by li.na"},
		{"add hsm5 127.0.0.1:15005 --set x", exitUsage, "--set must look like", "add hsm4 dev 127.0.0.1:15004 by li.na"},
		{"add hsm5 127.0.0.1:15005 --priority 0", exitUsage, "priority 0 is not possible", "add hsm4 dev 127.0.0.1:15004 by li.na"},
		{"remove hsm4", 0, "hsm4 is removed. Make it permanent with: posp hsm save", "remove hsm4 by li.na"},
		{"queues clear requests", 0, "2 requests are cleared.", "clear-queue dev requests by li.na"},
		{"queues clear requests --domain none", exitNotFound, "there is no LMK domain none", "clear-queue dev requests by li.na"},
		{"engine stop", 0, "The engine is stopped.", "engine stop by li.na"},
		{"list", 0, "! The engine is stopped: no request is served. Start it with: posp hsm engine start", "engine stop by li.na"},
		{"engine start", 0, "The engine is running.", "engine start by li.na"},
		{"monitoring stop", 0, "Monitoring is off.", "monitoring false by li.na"},
		{"list", 0, "! Monitoring is off", "monitoring false by li.na"},
		{"monitoring start", 0, "Monitoring is on.", "monitoring true by li.na"},
		{"journal off", 0, "The journal is off.", "journal false by li.na"},
		{"journal on", 0, "The journal is on.", "journal true by li.na"},
		{"save --reason test", 0, "Version 1 of the online list is saved: 3 members.", "journal true by li.na"},
		{"save --base 0", exitRefused, "was saved by somebody", "journal true by li.na"},
		{"saved", 0, "hsm1 hsm2 hsm3  test", "journal true by li.na"},
		{"history --member hsm4", 0, "by li.na", "journal true by li.na"},
		{"history --all --limit 1 --output json", 0, `"instance":"posp-1"`, "journal true by li.na"},
		{"list --output yaml", exitUsage, "--output must be table or json", "journal true by li.na"},
		{"nothing", exitUsage, `has no command "nothing"`, "journal true by li.na"},
		{"show", exitUsage, "accepts 1 arg", "journal true by li.na"},
	} {
		code, out, errs := o.posp(strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(out+errs, test.want) {
			t.Errorf("posp hsm %s: exit code %d, want %d and %q:\n%s%s", test.args, code, test.code, test.want, out, errs)
		}
		told := ""
		if calls := o.cluster.Calls(); len(calls) > 0 {
			told = calls[len(calls)-1]
		}
		if told != test.told {
			t.Errorf("posp hsm %s: the cluster was told %q, want %q", test.args, told, test.told)
		}
	}
}

// TestHSMRefused: who has no right, no certificate, or no address hears what to do, with an exit code of its own.
func TestHSMRefused(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	o.config = o.file(t, "posp")
	if code, _, errs := o.posp("engine", "stop"); code != exitForbidden || !strings.Contains(errs, "not that of an operator") {
		t.Errorf("another service: %d %s", code, errs)
	}
	o.config = o.file(t, "stranger")
	if code, _, errs := o.posp("list"); code != exitNoAnswer || !strings.Contains(errs, "must be those of this service") {
		t.Errorf("a stranger: %d %s", code, errs)
	}
	if code, _, errs := o.posp("list", "--url", "https://127.0.0.1:1"); code != exitNoAnswer || !strings.Contains(errs, "is the address right?") {
		t.Errorf("nobody there: %d %s", code, errs)
	}
	o.config = o.file(t, "li.na")
	if code, _, errs := o.posp("rewrap", "status"); code != exitNotFound || !strings.Contains(errs, "moves no keys, the key service does; name its client file") {
		t.Errorf("keys moved by posp: %d %s", code, errs)
	}
	o.config = filepath.Join(t.TempDir(), "none.yaml")
	if code, _, errs := o.posp("list"); code != exitFailure || !strings.Contains(errs, "none.yaml") {
		t.Errorf("no file: %d %s", code, errs)
	}
	o.config = ""
	if code, _, errs := o.posp("list"); code != exitUsage || !strings.Contains(errs, "KEYWARD_HSM_CONFIG") {
		t.Errorf("nothing said: %d %s", code, errs)
	}
	o = newOperated(t)
	o.cluster.Refuse = member.Refuse(member.Unsafe, "mend another one first, or use --force", "hsm1 is the last working member of dev")
	if code, _, errs := o.posp("drain", "hsm1"); code != exitRefused || !strings.Contains(errs, "last working member of dev; mend another one first") {
		t.Errorf("unsafe: %d %s", code, errs)
	}
}

// TestHSMCompletion: names come from the running service.
func TestHSMCompletion(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	var out, errs bytes.Buffer
	if code := run([]string{"__complete", "hsm", "--config", o.config, "drain", ""}, &out, &errs); code != 0 || !strings.Contains(out.String(), "hsm2\tstandby 127.0.0.1:15002") {
		t.Errorf("%d %s %s", code, &out, &errs)
	}
	out.Reset()
	if code := run([]string{"__complete", "hsm", "--config", o.config, "state", "hsm1", ""}, &out, &errs); code != 0 || !strings.Contains(out.String(), "fenced") {
		t.Errorf("%d %s %s", code, &out, &errs)
	}
}

// lines passes on what is written, and can be waited for.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	news chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.text.Write(b)
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (l *lines) await(t *testing.T, want string, n int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		if strings.Count(text, want) >= n {
			return
		}
		select {
		case <-l.news:
		case <-limit:
			t.Fatalf("%q did not come %d times:\n%s", want, n, text)
		}
	}
}

// TestHSMFollow: --follow shows the past and then what happens; --watch draws again and again, and keeps the last picture when there is no
// answer.
func TestHSMFollow(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	start := func(args ...string) (*lines, func()) {
		out := &lines{news: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		c := command()
		c.SetArgs(append([]string{"hsm", "--config", o.config}, args...))
		c.SetOut(out)
		c.SetErr(io.Discard)
		ended := make(chan error, 1)
		go func() { ended <- c.ExecuteContext(ctx) }()
		return out, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("%v: %v", args, err)
			}
		}
	}
	if code, _, errs := o.posp("drain", "hsm2"); code != 0 {
		t.Fatal(errs)
	}
	out, end := start("history", "--follow")
	out.await(t, "state by li.na", 0)
	out.await(t, "by li.na", 1)
	if code, _, errs := o.posp("state", "hsm2", "standby", "--reason", "back"); code != 0 {
		t.Fatal(errs)
	}
	out.await(t, "by li.na: back", 1)
	end()
	out, end = start("list", "--watch", "--every", "200ms")
	out.await(t, "LMK domain dev", 2)
	end()
}

// TestHSMJSON: what --output json prints is one document that reads back.
func TestHSMJSON(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	_, out, _ := o.posp("list", "--output", "json")
	var overview hsmops.Overview
	if err := json.Unmarshal([]byte(out), &overview); err != nil || len(overview.Members) != 3 || overview.Members[2].State != member.Fenced {
		t.Errorf("%v:\n%s", err, out)
	}
	_, out, _ = o.posp("drain", "hsm1", "--output", "json")
	var s member.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.State != member.Draining {
		t.Errorf("%v:\n%s", err, out)
	}
}
