package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/sim/pos"
)

const (
	// maxRate is the most that the terminals' generator takes, commands per second.
	maxRate = 1000
	// maxTerminals bounds one list of terminals: more cannot be told apart on a screen.
	maxTerminals = 10_000
)

// TrafficStatus is the answer of all methods of /v1/traffic.
type TrafficStatus struct {
	Running       bool         `json:"running"`
	RatePerSecond float64      `json:"rate_per_second"` // 0 when not running
	Terminals     []string     `json:"terminals"`
	Counters      pos.Counters `json:"counters"` // of all runs since the process began
}

// traffic is the generator with its present setting.
type traffic struct {
	fleet     *pos.Fleet
	generator pos.Traffic
	mu        sync.Mutex // one change at a time; a stop takes up to 3 s
	now       TrafficConfig
	stopped   bool // the process stops: no new runs
}

// check refuses what the generator could not do. Each terminal stands once, because two commands of one terminal at the same
// time are no traffic that exists.
func (c TrafficConfig) check() error {
	if !(c.RatePerSecond > 0 && c.RatePerSecond <= maxRate) { // also refuses NaN
		return fmt.Errorf("rate_per_second must be above 0 and at most %d", maxRate)
	}
	if len(c.Terminals) == 0 || len(c.Terminals) > maxTerminals {
		return fmt.Errorf("terminals must name 1 to %d terminals", maxTerminals)
	}
	seen := map[string]bool{}
	for _, id := range c.Terminals {
		if len(id) != 8 || !letters(id, true) || seen[id] {
			return errors.New("terminals must be terminal numbers of 8 letters or digits, each once")
		}
		seen[id] = true
	}
	return nil
}

// start begins, or goes on with another setting.
func (t *traffic) start(c TrafficConfig) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return errors.New("the simulators are stopping")
	}
	t.generator.Stop()
	t.generator.Rate, t.generator.Terminals = c.RatePerSecond, c.Terminals
	t.now = TrafficConfig{}
	if err := t.generator.Start(context.Background()); err != nil { // it ends with stop, not with the request that began it
		return err
	}
	t.now = c
	return nil
}

// pause ends a run; stop ends the last one.
func (t *traffic) pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.generator.Stop()
	t.now = TrafficConfig{}
}

func (t *traffic) stop() {
	t.pause()
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.pause() // a run that began between
}

func (t *traffic) status() TrafficStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TrafficStatus{
		Running: t.now.RatePerSecond > 0, RatePerSecond: t.now.RatePerSecond,
		Terminals: append([]string{}, t.now.Terminals...), Counters: t.generator.Counters(),
	}
}

func (a *App) getTraffic(w http.ResponseWriter, r *http.Request) error {
	httpapi.WriteJSON(w, r, http.StatusOK, a.traffic.status())
	return nil
}

func (a *App) postTraffic(w http.ResponseWriter, r *http.Request) error {
	var c TrafficConfig
	if err := httpapi.DecodeJSON(w, r, &c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: err.Error()}
	}
	if err := a.traffic.start(c); err != nil {
		return &httpapi.Error{Status: http.StatusConflict, Detail: err.Error(), Cause: err}
	}
	return a.getTraffic(w, r)
}

func (a *App) deleteTraffic(w http.ResponseWriter, r *http.Request) error {
	a.traffic.pause()
	return a.getTraffic(w, r)
}
