package posp

import (
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/posp/access"
	"github.com/keyward/keyward/internal/service"
)

// TestListenerSettings: settings that contradict each other are refused with a sentence that names them; what is left out has its
// default.
func TestListenerSettings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		l    TerminalListener
		want string // "" for a good one
	}{
		"plain":              {TerminalListener{Addr: "127.0.0.1:1"}, ""},
		"no address":         {TerminalListener{}, "terminals[0].addr"},
		"below zero":         {TerminalListener{Addr: "a:1", Limits: AccessLimits{MaxInFlight: -1}}, "must not be below zero"},
		"few in all":         {TerminalListener{Addr: "a:1", Limits: AccessLimits{MaxConnections: 10}}, ""},
		"more per address":   {TerminalListener{Addr: "a:1", Limits: AccessLimits{MaxConnections: 10, MaxConnectionsPerAddress: 11}}, "would bound nothing"},
		"tiny messages":      {TerminalListener{Addr: "a:1", Limits: AccessLimits{MaxMessage: 63}}, "max_message is 63"},
		"giant messages":     {TerminalListener{Addr: "a:1", Limits: AccessLimits{MaxMessage: 65535}}, "max_message is 65535"},
		"idle before slow":   {TerminalListener{Addr: "a:1", Limits: AccessLimits{IdleTimeout: service.Duration(time.Second)}}, "longer than message_timeout"},
		"bound to nothing":   {TerminalListener{Addr: "a:1", TLS: &TerminalTLS{ClientCertificate: access.None, BindTerminal: true}}, "client_certificate"},
		"revoked, not asked": {TerminalListener{Addr: "a:1", TLS: &TerminalTLS{ClientCertificate: access.None, Revoked: []string{"x"}}}, "client_certificate"},
		"server only":        {TerminalListener{Addr: "a:1", TLS: &TerminalTLS{ClientCertificate: access.None}}, ""},
	} {
		err := tc.l.check("terminals[0]")
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.want)
		}
	}
	if l := (AccessLimits{}).complete(); l.MaxConnections != 25_000 || l.MaxConnectionsPerAddress != 1_000 || l.KeepAlive.Std() != time.Minute || l.IdleTimeout.Std() != 10*time.Minute {
		t.Errorf("defaults: %+v", l)
	}
	if l := (AccessLimits{MaxConnections: 10}).complete(); l.MaxConnectionsPerAddress != 10 {
		t.Errorf("ten in all, %d per address", l.MaxConnectionsPerAddress)
	}
}
