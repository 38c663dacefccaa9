package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/migrations"
)

// newRouted serves the routing of a posp with the hosts bank and other.
func newRouted(t *testing.T) *operated {
	t.Helper()
	book, err := route.New(route.Config{Pool: pgtest.New(t).Pool(t, migrations.RolePOSP), Instance: "posp-1", Hosts: []string{"bank", "other"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := book.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := book.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	h := route.NewHandler([]string{"li.na"}, log)
	h.Serve(book, time.UTC, func(string) error { return nil })
	doc, err := route.Document(hsmops.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	router, err := httpapi.NewRouter(log, doc, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Mount(router)
	o := &operated{listener: hsmopstest.Listen(t, router, "li.na", "posp")}
	o.config = o.file(t, "li.na")
	return o
}

// route wants the exit code and every word in output or errors.
func (o *operated) route(t *testing.T, args string, code int, words ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	got := run(append([]string{"route", "--config", o.config}, strings.Fields(args)...), &out, &errs)
	text := out.String() + errs.String()
	if got != code {
		t.Fatalf("%s: exit code %d, want %d: %s", args, got, code, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: no %q in %s", args, w, text)
		}
	}
	return out.String()
}

func TestRouteCommands(t *testing.T) {
	t.Parallel()
	o := newRouted(t)
	file := func(text string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "rules.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := file("rules:\n- name: trial\n  cards: [6222]\n  hosts: [other]\n")
	o.route(t, "list", 0, "# version 0 in force on posp-1; hosts: bank, other", "# no rules")
	o.route(t, "history", 0, "no rules were ever saved")
	o.route(t, "test --card 6222", 0, "host bank (version 0)", "there are no rules")
	o.route(t, "test --card 6222 --file "+good, 0, "host other (the rules to try)", `rule "trial" (line 2) fits: card 6222 is card 6222`)
	o.route(t, "set "+good+" --reason trial", 0, "version 1 is in force, saved by li.na on posp-1", ": trial")
	o.route(t, "test --card 6230 --kind refund", 0, "host bank (version 1)", `rule "trial" (line 2) does not fit: card 6230 is not card 6222`)
	o.route(t, "set "+good+" --base 0", exitRefused, "version 1 of the routing was saved by li.na", "posp route list")
	o.route(t, "set "+file("rules:\n- name: a\n  hosts: [bonk]\n"), exitRefused, `line 3: host "bonk" is not configured; configured are: bank, other`)
	o.route(t, "set /nowhere", exitFailure, "/nowhere")
	o.route(t, "undo --base 1", 0, "version 2 is in force", "brings version 0 back")
	o.route(t, "undo", exitRefused, "nothing to undo")
	o.route(t, "undo --to 1", 0, "version 3 is in force", "brings version 1 back")
	o.route(t, "history", 0, "3  saved by li.na", "1  saved by li.na")
	var v route.Verdict
	if err := json.Unmarshal([]byte(o.route(t, "test --card 622202 --at 2026-01-31T08:00:00+08:00 --output json", 0)), &v); err != nil || v.Rule != "trial" {
		t.Errorf("%+v, %v", v, err)
	}
	// What list prints can be set again.
	listed := file(o.route(t, "list", 0, "# version 3 in force", "- name: trial"))
	o.route(t, "set "+listed, 0, "version 4")
	o.route(t, "test --at noon", exitUsage, "--at must look like")
	o.route(t, "nothing", exitUsage)
	o.config = o.file(t, "posp")
	o.route(t, "list", 0, "version 4")
	o.route(t, "undo", exitForbidden, `the certificate of "posp" may not change the routing`, "routing.operators")
}

// TestRoutingPage: docs/routing.md shows commands that exist, with flags that they have, and leaves none out; its rules can be read.
func TestRoutingPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/routing.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	shown := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^(?:\$ )?posp (route .*)$`).FindAllStringSubmatch(page, -1) {
		text, _, _ := strings.Cut(line[1], "   #")
		found, rest, err := command().Find(words(text))
		if err != nil || found.Name() == "route" {
			t.Errorf("posp %s: %v", text, err)
			continue
		}
		if err := found.ParseFlags(rest); err != nil {
			t.Errorf("posp %s: %v", text, err)
		}
		if err := found.ValidateArgs(found.Flags().Args()); err != nil {
			t.Errorf("posp %s: %v", text, err)
		}
		shown[found.Name()] = true
	}
	root, _, err := command().Find([]string{"route"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range root.Commands() {
		if !shown[c.Name()] || c.Short == "" {
			t.Errorf("the page does not show %s", c.CommandPath())
		}
	}
	rules := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page, -1)
	for _, r := range rules {
		if _, err := route.Parse(r[1], []string{"bank", "new-bank"}); err != nil {
			t.Errorf("%s\n%v", r[1], err)
		}
	}
	if len(rules) == 0 {
		t.Error("the page shows no rules")
	}
}
