package service_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/service"
)

func TestLifecycleStopsInReverse(t *testing.T) {
	t.Parallel()
	l := service.NewLifecycle(nil)
	var order []string
	for _, name := range []string{"database", "hsm", "listener"} {
		l.Add(name, time.Second, func(context.Context) error {
			order = append(order, name)
			if name != "hsm" {
				return errors.New(name + " was busy")
			}
			return nil
		})
	}
	err := l.Stop(context.Background())
	if got := strings.Join(order, " "); got != "listener hsm database" {
		t.Fatalf("order %s", got)
	}
	if err == nil || err.Error() != "stop listener: listener was busy\nstop database: database was busy" {
		t.Fatalf("%v", err)
	}
	if again := l.Stop(context.Background()); again == nil || again.Error() != err.Error() || len(order) != 3 {
		t.Fatalf("second stop: %v", again)
	}
	l.Add("late", time.Second, func(context.Context) error { order = append(order, "late"); return nil })
	if order[len(order)-1] != "late" {
		t.Fatal("added after the stop and never stopped")
	}
}

func TestLifecycleBoundsEachPart(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	l := service.NewLifecycle(slog.New(slog.NewTextHandler(&log, nil)))
	release, reached := make(chan struct{}), false
	l.Add("first", time.Second, func(context.Context) error { reached = true; return nil })
	l.Add("panics", time.Second, func(context.Context) error { panic("0123456789") })
	l.Add("obeys", time.Millisecond, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
	l.Add("hangs", time.Millisecond, func(context.Context) error { <-release; return nil })
	err := l.Stop(context.Background())
	close(release)
	if err == nil || !reached {
		t.Fatalf("reached %v, %v", reached, err)
	}
	for _, want := range []string{"stop hangs: left behind: not ended within 1ms", "stop obeys: not ended within 1ms", "stop panics: panic"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing: %v", want, err)
		}
	}
	if !strings.Contains(log.String(), "lifecycle_test.go") || strings.Contains(err.Error()+log.String(), "0123456789") {
		t.Errorf("the stack belongs in the log, the value nowhere: %s", log.String())
	}
}

func TestLifecycleTasks(t *testing.T) {
	t.Parallel()
	l := service.NewLifecycle(nil)
	fail := make(chan struct{})
	l.Go("good", time.Second, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	l.Go("bad", time.Second, func(context.Context) error { <-fail; return errors.New("disk full") })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Wait(ctx); err != nil {
		t.Fatalf("a signal is no failure: %v", err)
	}
	close(fail)
	if err := l.Wait(context.Background()); err == nil || err.Error() != "bad: disk full" {
		t.Fatalf("%v", err)
	}
	if err := l.Stop(context.Background()); err == nil || err.Error() != "stop bad: disk full" {
		t.Fatalf("%v", err)
	}
}

func TestLifecycleConcurrentStop(t *testing.T) {
	t.Parallel()
	l := service.NewLifecycle(nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { l.Add("part", time.Second, func(context.Context) error { return nil }) })
		wg.Go(func() {
			if err := l.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
