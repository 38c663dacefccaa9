package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/sim/hsm"
)

const (
	// slowMS is how late the answers of a device broken as "slow" are: later than any sensible time-out of one command.
	slowMS = 5000
	// defaultLimit is how many entries of a history are shown unless asked for.
	defaultLimit = 50
	// maxLimit bounds what one answer shows of a history.
	maxLimit = 1000
	// defaultHeldWait is how long GET held waits unless asked for.
	defaultHeldWait = 5 * time.Second
	// maxHeldWait stays below the server's write time-out of 90 s.
	maxHeldWait = time.Minute
)

// HSMStatus is one device in GET /v1/hsms.
type HSMStatus struct {
	Name     string       `json:"name"`
	Serial   string       `json:"serial"`
	Ports    []PortStatus `json:"ports"`
	Healthy  bool         `json:"healthy"` // nobody has broken it
	Faults   hsm.Faults   `json:"faults"`
	Counters hsm.Counters `json:"counters"`
}

// PortStatus is one listener of a device.
type PortStatus struct {
	Name  string `json:"name"`
	Group string `json:"group"`
	Addr  string `json:"addr"` // with the port that was taken
}

func (d *device) status() HSMStatus {
	s := HSMStatus{Name: d.cfg.Name, Serial: d.cfg.Serial, Ports: []PortStatus{}, Faults: d.sim.Faults(), Counters: d.sim.Counters()}
	s.Healthy = reflect.DeepEqual(s.Faults, d.natural)
	for _, p := range d.cfg.Ports {
		one := PortStatus{Name: p.Name, Group: p.Group, Addr: p.Addr}
		if bound := d.sim.Addr(p.Name); bound != nil {
			one.Addr = bound.String()
		}
		s.Ports = append(s.Ports, one)
	}
	return s
}

// device finds a device; the error is a 404.
func (a *App) device(name string) (*device, error) {
	for _, d := range a.devices {
		if d.cfg.Name == name {
			return d, nil
		}
	}
	return nil, &httpapi.Error{Status: http.StatusNotFound, Detail: "there is no HSM of this name", NextStep: "GET /v1/hsms lists them"}
}

// onDevice is a handler with the device of the path.
func (a *App) onDevice(do func(http.ResponseWriter, *http.Request, *device) error) http.Handler {
	return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		d, err := a.device(chi.URLParam(r, "name"))
		if err != nil {
			return err
		}
		return do(w, r, d)
	})
}

func (a *App) listHSMs(w http.ResponseWriter, r *http.Request) error {
	list := []HSMStatus{}
	for _, d := range a.devices {
		list = append(list, d.status())
	}
	httpapi.WriteJSON(w, r, http.StatusOK, list)
	return nil
}

func getFaults(w http.ResponseWriter, r *http.Request, d *device) error {
	httpapi.WriteJSON(w, r, http.StatusOK, d.sim.Faults())
	return nil
}

func putFaults(w http.ResponseWriter, r *http.Request, d *device) error {
	var f hsm.Faults
	if err := httpapi.DecodeJSON(w, r, &f); err != nil {
		return err
	}
	return d.set(w, r, func(hsm.Faults) hsm.Faults { return f })
}

// mend serves DELETE faults and POST mend.
func mend(w http.ResponseWriter, r *http.Request, d *device) error {
	return d.set(w, r, func(hsm.Faults) hsm.Faults { return d.natural })
}

// breakage is the body of POST break.
type breakage struct {
	How string `json:"how"` // a key of ways
}

// ways are the breakages with a name of their own.
var ways = map[string]func(*hsm.Faults){
	"refuse":       func(f *hsm.Faults) { f.Refuse = true },
	"reset":        func(f *hsm.Faults) { f.Refuse, f.Reset = true, true },
	"black_hole":   func(f *hsm.Faults) { f.BlackHole = true },
	"stall":        func(f *hsm.Faults) { f.Stall = true },
	"slow":         func(f *hsm.Faults) { f.LatencyMS = slowMS },
	"wrong_lmk":    func(f *hsm.Faults) { f.LMKSeed = "wrong" },
	"wrong_result": func(f *hsm.Faults) { f.WrongResultEvery = 1 },
}

func breakHSM(w http.ResponseWriter, r *http.Request, d *device) error {
	var b breakage
	if err := httpapi.DecodeJSON(w, r, &b); err != nil {
		return err
	}
	way := ways[b.How]
	if way == nil {
		return &httpapi.Error{
			Status: http.StatusBadRequest, Detail: "how must be one of " + strings.Join(slices.Sorted(maps.Keys(ways)), ", "),
			NextStep: "PUT /v1/hsms/{name}/faults sets every other fault",
		}
	}
	return d.set(w, r, func(f hsm.Faults) hsm.Faults { way(&f); return f })
}

// set changes the faults and answers the device's new status.
func (d *device) set(w http.ResponseWriter, r *http.Request, change func(hsm.Faults) hsm.Faults) error {
	d.change.Lock()
	defer d.change.Unlock()
	err := d.sim.SetFaults(change(d.sim.Faults()))
	if _, network := errors.AsType[*net.OpError](err); network {
		return &httpapi.Error{
			Status: http.StatusConflict, Detail: "the device cannot open its port again: " + err.Error(),
			NextStep: "stop what uses the port and try again", Cause: err,
		}
	}
	if err != nil {
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: err.Error(), NextStep: "docs/hsm-sim.md §6 lists the faults", Cause: err}
	}
	httpapi.WriteJSON(w, r, http.StatusOK, d.status())
	return nil
}

func hsmHistory(w http.ResponseWriter, r *http.Request, d *device) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, d.sim.History(limit))
	return nil
}

// limitOf reads ?limit=, 1 to maxLimit.
func limitOf(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxLimit {
		return 0, &httpapi.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("limit must be a number from 1 to %d", maxLimit)}
	}
	return limit, nil
}

// held is the answer of GET held, and with Released that of POST release.
type held struct {
	Command  string `json:"command"`
	Held     bool   `json:"held"`
	Released int    `json:"released"`
}

// command names a host command in POST release.
type command struct {
	Command string `json:"command"`
}

func (c command) check() error {
	if slices.Contains(hsm.AllCommands(), c.Command) {
		return nil
	}
	return &httpapi.Error{Status: http.StatusBadRequest, Detail: "command must be a host command of the simulator, for example M8"}
}

func release(w http.ResponseWriter, r *http.Request, d *device) error {
	var c command
	if err := httpapi.DecodeJSON(w, r, &c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, held{Command: c.Command, Released: d.sim.Release(c.Command)})
	return nil
}

// waitHeld waits until an answer of the command is withheld, or the time-out: held tells which.
func (a *App) waitHeld(w http.ResponseWriter, r *http.Request, d *device) error {
	c := command{r.URL.Query().Get("command")}
	if err := c.check(); err != nil {
		return err
	}
	wait := defaultHeldWait
	if text := r.URL.Query().Get("timeout"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait <= 0 || wait > maxHeldWait {
			return &httpapi.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("timeout must be a duration such as 500ms or 5s, at most %s", maxHeldWait)}
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-a.stopping:
			cancel()
		case <-ended:
		}
	}()
	err := d.sim.WaitHeld(ctx, c.Command)
	httpapi.WriteJSON(w, r, http.StatusOK, held{Command: c.Command, Held: err == nil})
	return nil
}
