package control

import (
	"testing"

	"github.com/keyward/keyward/internal/httpapi/httpapitest"
	"github.com/keyward/keyward/internal/service"
)

func TestOpenAPIAgreesWithRoutes(t *testing.T) {
	t.Parallel()
	const key = "10204080010204080102040810204080"
	a, err := New(Config{
		Profile: service.Test, Listen: "127.0.0.1:0", Bank: Bank{Addr: "127.0.0.1:0", ZPK: Key{Value: key}, ZAK: Key{Value: key}},
		Cards: Cards{Dir: t.TempDir()}, Terminals: Terminals{StateDir: t.TempDir(), POSP: "127.0.0.1:1"}, TransportKey: Key{Value: key},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	router, err := a.routes()
	if err != nil {
		t.Fatal(err)
	}
	httpapitest.CheckRoutes(t, router, openAPI)
}
