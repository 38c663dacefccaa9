package service_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/service"
)

// recorder is an app that notes what is called.
type recorder struct {
	calls               []string
	start, wait, stop   error
	stopBounded, stopOK bool
}

func (r *recorder) Start(context.Context) error { r.calls = append(r.calls, "start"); return r.start }

func (r *recorder) Wait(context.Context) error { r.calls = append(r.calls, "wait"); return r.wait }

func (r *recorder) Stop(ctx context.Context) error {
	r.calls = append(r.calls, "stop")
	_, r.stopBounded = ctx.Deadline()
	r.stopOK = ctx.Err() == nil
	return r.stop
}

func TestRun(t *testing.T) {
	t.Parallel()
	broken, stuck := errors.New("broken"), errors.New("stuck")
	for name, c := range map[string]struct {
		app   *recorder
		calls []string
		want  []error
	}{
		"ends":       {&recorder{}, []string{"start", "ready", "wait", "stop"}, nil},
		"start":      {&recorder{start: broken}, []string{"start", "stop"}, []error{broken}},
		"part fails": {&recorder{wait: broken, stop: stuck}, []string{"start", "ready", "wait", "stop"}, []error{broken, stuck}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // as after Ctrl-C: the stop must have its time all the same
		err := service.Run(ctx, c.app, time.Minute, func() { c.app.calls = append(c.app.calls, "ready") })
		if !slices.Equal(c.app.calls, c.calls) {
			t.Errorf("%s: calls %v, want %v", name, c.app.calls, c.calls)
		}
		for _, want := range c.want {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v in it", name, err, want)
			}
		}
		if (err == nil) != (len(c.want) == 0) || !c.app.stopBounded || !c.app.stopOK {
			t.Errorf("%s: %v, stop bounded %v, with time %v", name, err, c.app.stopBounded, c.app.stopOK)
		}
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	var cfg struct {
		Log service.LogConfig `yaml:"log"`
	}
	file := filepath.Join(t.TempDir(), "service.yaml")
	if _, err := service.Prepare(file, &cfg, &cfg.Log); err == nil || !strings.Contains(err.Error(), "configuration") {
		t.Errorf("without a file: %v", err)
	}
	if err := os.WriteFile(file, []byte("log: {level: warn, format: json}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := service.Prepare(file, &cfg, &cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	if log.Enabled(t.Context(), slog.LevelInfo) || !log.Enabled(t.Context(), slog.LevelWarn) {
		t.Error("the logger does not have the level of the file")
	}
}
