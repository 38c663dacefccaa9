package posp

import (
	"strings"
	"testing"
)

// TestHostLines: which connections a host gets, and which settings are refused.
func TestHostLines(t *testing.T) {
	t.Parallel()
	for want, h := range map[string]HostConfig{
		"a:1 | ":            {Addr: "a:1"},
		"a:1 a:1 b:1 | ":    {Lines: []LineConfig{{Addr: "a:1", Connections: 2}, {Addr: "b:1", Role: PrimaryLine, Connections: 1}}},
		"b:1 | a:1 a:1 c:1": {Lines: []LineConfig{{Addr: "a:1", Role: SecondaryLine, Connections: 2}, {Addr: "b:1"}, {Addr: "c:1", Role: SecondaryLine}}},
	} {
		primary, secondary := h.Reach()
		if got := strings.Join(primary, " ") + " | " + strings.Join(secondary, " "); got != want || h.check() != nil {
			t.Errorf("%+v: %s, %v", h, got, h.check())
		}
	}
	for want, h := range map[string]HostConfig{
		"addr is missing":                        {},
		"addr and lines are both given":          {Addr: "a:1", Lines: []LineConfig{{Addr: "b:1"}}},
		"max_in_flight is below zero":            {Addr: "a:1", MaxInFlight: -1},
		"lines[1].addr is missing":               {Lines: []LineConfig{{Addr: "a:1"}, {}}},
		"lines[1].addr a:1 stands there twice":   {Lines: []LineConfig{{Addr: "a:1"}, {Addr: "a:1"}}},
		`lines[0].role "first" is not known`:     {Lines: []LineConfig{{Addr: "a:1", Role: "first"}}},
		"lines[0].connections must be 1 to 32":   {Lines: []LineConfig{{Addr: "a:1", Connections: 33}}},
		"all lines are secondary":                {Lines: []LineConfig{{Addr: "a:1", Role: SecondaryLine}}},
		"hosts: 60%: lines[0].addr is missing: ": {Name: "60%", Lines: []LineConfig{{}}},
	} {
		if err := h.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", h, err, want)
		}
	}
}
