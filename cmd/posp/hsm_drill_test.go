package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/drill"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/httpapi"
)

// drilled is the cluster in memory with what a drill needs beside: a fault takes the member down, its end brings it back.
type drilled struct {
	*hsmopstest.Cluster
	mu        sync.Mutex
	states    map[string]member.State
	since     time.Time
	stays     bool // does not come back
	observers []func(member.Outcome)
}

func (d *drilled) Members() []member.Status {
	list := d.Cluster.Members()
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range list {
		list[i].Spec.Domain, list[i].State, list[i].Load.PerSecond = "dev", member.Working, 0
		if s, ok := d.states[list[i].Spec.Name]; ok {
			list[i].State, list[i].Since = s, d.since
		}
	}
	return list
}

func (d *drilled) Member(name string) (member.Status, error) {
	for _, s := range d.Members() {
		if s.Spec.Name == name {
			return s, nil
		}
	}
	return member.Status{}, member.Refuse(member.NotFound, "see posp hsm list", "there is no member %s", name)
}

func (d *drilled) set(name string, to member.State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.states[name], d.since = to, time.Now()
}

func (d *drilled) Inject(_ member.Act, name string, _ member.Fault) error {
	d.set(name, member.Down)
	return nil
}

func (d *drilled) Clear(_ member.Act, name string) error {
	if !d.stays {
		d.set(name, member.Standby)
	}
	return nil
}

func (d *drilled) SetState(_ context.Context, _ member.Act, name string, to member.State) error {
	d.set(name, to)
	return nil
}

func (d *drilled) Observe(fn func(member.Outcome)) (stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.observers = append(d.observers, fn)
	return func() {}
}

// ask is the own load.
func (d *drilled) ask(ctx context.Context, domain string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, fn := range d.observers {
		fn(member.Outcome{Ended: time.Now(), Took: time.Millisecond, Domain: domain, First: "hsm1", Last: "hsm1", Result: "ok", Drill: member.IsForDrill(ctx)})
	}
	return nil
}

func newDrilled(t *testing.T, stays bool) *operated {
	t.Helper()
	o := &operated{cluster: hsmopstest.NewCluster()}
	d := &drilled{Cluster: o.cluster, states: map[string]member.State{}, stays: stays}
	drills, err := drill.New(drill.Config{Cluster: d, Ask: d.ask})
	if err != nil {
		t.Fatal(err)
	}
	h, err := hsmops.New(hsmops.Options{Cluster: o.cluster, Operators: []string{"li.na"}, More: []func(hsmops.Routes){hsmops.DrillRoutes(drills)}})
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
	t.Cleanup(func() {
		if err := drills.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return o
}

// TestDrillCommand runs a drill from the command line to its end, with both reports, and looks at it afterwards.
func TestDrillCommand(t *testing.T) {
	t.Parallel()
	o := newDrilled(t, false)
	dir := t.TempDir()
	page, doc := filepath.Join(dir, "drill.html"), filepath.Join(dir, "drill.json")
	code, out, errs := o.posp("drill", "start", "hsm1", "--kind", "refuse", "--before", "2s", "--during", "2s", "--after", "1s", "--rate", "50", "--reason", "test", "--out", page, "--out", doc)
	if code != 0 || !strings.Contains(out, "verdict: passed") || !strings.Contains(errs, "fault in place: refuse") {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	text, err := os.ReadFile(page)
	if err != nil || !strings.HasPrefix(string(text), "<!DOCTYPE html>") {
		t.Errorf("%v, %.60s", err, text)
	}
	var rep drill.Report
	if text, err = os.ReadFile(doc); err == nil {
		err = json.Unmarshal(text, &rep)
	}
	if err != nil || rep.Verdict != drill.Passed || rep.By != "li.na" || rep.Reason != "test" {
		t.Errorf("%v: %s by %s (%s)", err, rep.Verdict, rep.By, rep.Reason)
	}
	for _, s := range []struct {
		args string
		code int
		want string
	}{
		{"drill list", 0, "hsm1    refuse"},
		{"drill status", 0, "passed"},
		{"drill status --output json", 0, `"phase": "over"`},
		{"drill report", 0, "recovery"},
		{"drill report " + rep.ID + " --output json", 0, `"verdict": "passed"`},
		{"drill report 20260101-000000-0000", exitNotFound, "there is no drill"},
		{"drill report ../../x", exitNotFound, ""},
		{"drill report --out x.pdf", exitUsage, ".html or .json"},
		{"drill start nobody", exitNotFound, "there is no member nobody"},
		{"drill start hsm1 --kind burn", exitRefused, "use refuse, black_hole, slow or wrong_lmk"},
		{"drill start hsm1 --detach --out x.html", exitUsage, "--detach"},
		{"drill stop", 0, "passed"},
	} {
		code, out, errs := o.posp(strings.Fields(s.args)...)
		if code != s.code || !strings.Contains(out+errs, s.want) {
			t.Errorf("%s: exit code %d\n%s%s", s.args, code, out, errs)
		}
	}
}

// The exit code is that of the verdict.
func TestDrillVerdicts(t *testing.T) {
	t.Parallel()
	o := newDrilled(t, true)
	code, out, errs := o.posp("drill", "start", "hsm1", "--before", "1s", "--during", "1s", "--limit-recovery", "200ms")
	if code != exitDrillFailed || !strings.Contains(out, "verdict: failed") || !strings.Contains(errs, "failed") {
		t.Errorf("a member that does not come back: exit code %d\n%s%s", code, out, errs)
	}
	o = newDrilled(t, false)
	if code, out, errs = o.posp("drill", "start", "hsm1", "--detach", "--during", "5m"); code != 0 || !strings.Contains(out, "has begun") {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	if code, out, errs = o.posp("drill", "start", "hsm2"); code != exitRefused || !strings.Contains(errs, "is running") {
		t.Errorf("a second one: exit code %d\n%s%s", code, out, errs)
	}
	if code, out, errs = o.posp("drill", "report"); code != exitRefused {
		t.Errorf("the report of a running one: exit code %d\n%s%s", code, out, errs)
	}
	if code, out, errs = o.posp("drill", "stop", "--reason", "enough"); code != 0 {
		t.Errorf("stop: exit code %d\n%s%s", code, out, errs)
	}
	for deadline := time.Now().Add(30 * time.Second); code != exitDrillIncomplete; {
		if time.Now().After(deadline) {
			t.Fatalf("exit code %d\n%s%s", code, out, errs)
		}
		time.Sleep(50 * time.Millisecond) // polling, as a script would
		code, out, errs = o.posp("drill", "report")
	}
	if !strings.Contains(errs, "stopped by li.na: enough") {
		t.Errorf("%s%s", out, errs)
	}
}

// Who is interrupted (Ctrl-C) puts the member back.
func TestDrillIsInterrupted(t *testing.T) {
	t.Parallel()
	o := newDrilled(t, false)
	client, err := hsmops.NewClient(o.listener.Config("li.na"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var p drill.Progress
	if err := client.Do(t.Context(), "/drills", hsmops.DrillOrder{Request: drill.Request{Member: "hsm1", Kind: member.FaultRefuse, Lease: member.Duration(10 * time.Second)}}, &p); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errs strings.Builder
	if err := watchDrill(ctx, client, p, newBar(&errs)); err != nil {
		t.Fatal(err)
	}
	if err := client.Get(t.Context(), "/drills/"+p.ID, nil, &p); err != nil || p.Verdict != drill.Incomplete || !strings.Contains(p.Cause, "interrupted") {
		t.Errorf("%+v, %v", p, err)
	}
	if !strings.Contains(errs.String(), "interrupted: the fault ends") {
		t.Errorf("said: %s", errs.String())
	}
}
