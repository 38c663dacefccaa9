package posp_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/pos"
)

// TestRouting changes the rules while a terminal trades: the next transaction goes to the other bank, the undo brings it back, and a host
// that is away is passed over, or ends the transaction where the rule names no other.
func TestRouting(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	first := s.bank
	s.startBank() // a second one, with the same cards
	second := s.bank
	s.stopPOSP()
	other := s.cfg.Hosts[0]
	other.Name, other.Addr = "other", second.Addr()
	s.cfg.Hosts = append(s.cfg.Hosts, other)
	s.routing = route.NewHandler([]string{"li.na"}, slog.New(slog.DiscardHandler))
	doc, err := route.Document([]byte(`{"openapi":"3.1.0","info":{"title":"t","version":"1"},"paths":{},"components":{"schemas":{}}}`))
	s.must(err)
	router, err := httpapi.NewRouter(slog.New(slog.DiscardHandler), doc, nil)
	s.must(err)
	s.routing.Mount(router)
	people := hsmopstest.Listen(t, router, "li.na")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: people.TLS(t, "li.na"), DisableKeepAlives: true}}
	order := func(path string, in, out any) {
		t.Helper()
		s.must(httpapi.Call{Method: http.MethodPost, URL: people.URL + route.Prefix + path, Body: in}.Do(t.Context(), client, out))
	}
	s.startPOSP()
	term := s.terminal(1, nil)
	want(t, term.SignOn(t.Context()), "00")

	booked := func(b *bank.Bank) int64 {
		for _, a := range b.Book().Balances {
			if strings.HasSuffix(a.PAN, "0018") {
				return a.Balance
			}
		}
		return 0
	}
	trade := func(code string, to *bank.Bank) {
		t.Helper()
		before := map[*bank.Bank]int64{first: booked(first), second: booked(second)}
		want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 100, PAN: card1, PIN: pin1}), code)
		for b, was := range before {
			if moved := was - booked(b); moved != 0 && b != to || b == to && moved != 100 {
				t.Errorf("%s has booked %d", b.Addr(), moved)
			}
		}
	}
	trade("00", first)
	rules := "rules:\n- name: trial\n  cards: [6222]\n  amount: {to: 100}\n  hosts: [other]\n"
	order("", route.SetOrder{Document: rules}, nil)
	trade("00", second)
	var v route.Verdict
	order("/test", route.Question{Card: card1, Amount: 101}, &v)
	if v.Rule != "" || v.Host != "core" || !strings.Contains(v.Asked[0].Why, "amount 101 is not amount 0-100") {
		t.Errorf("%+v", v)
	}
	order("/undo", route.UndoOrder{}, nil)
	trade("00", first)
	order("/undo", map[string]int{"to": 1}, nil)
	s.restart()
	trade("00", second)

	s.stop("second bank", second.Stop)
	s.await("the loss of the line", func() bool {
		order("/test", route.Question{Card: card1, Amount: 100}, &v)
		return v.Host == ""
	})
	trade("91", nil)
	order("", route.SetOrder{Document: strings.Replace(rules, "[other]", "[other, core]", 1)}, nil)
	trade("00", first)
}
