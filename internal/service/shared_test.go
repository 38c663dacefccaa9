package service_test

import (
	"testing"

	"github.com/keyward/keyward/internal/service"
)

func TestCheckPlain(t *testing.T) {
	t.Parallel()
	plain := service.ListenerConfig{Addr: "127.0.0.1:1"}
	for name, c := range map[string]struct {
		listener service.ListenerConfig
		profile  service.Profile
		refused  bool
	}{
		"production": {plain, service.Production, true}, "dev": {plain, service.Dev, false}, "test": {plain, service.Test, false},
		"private": {service.ListenerConfig{Addr: "x", Private: true}, service.Production, false}, "off": {service.ListenerConfig{}, service.Production, false},
		"tls": {service.ListenerConfig{Addr: "x", TLS: &service.TLSConfig{}}, service.Production, false},
	} {
		if err := c.listener.CheckPlain(c.profile, "listen"); (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
