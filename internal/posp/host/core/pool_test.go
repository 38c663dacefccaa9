package core_test

import (
	"context"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/host/core"
	"github.com/keyward/keyward/internal/posp/host/hosttest"
	"github.com/keyward/keyward/internal/posp/host/pool"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/sim/bank"
)

// pooled makes a pool of lines to a bank.
func pooled(t *testing.T, primary, secondary []string, change ...func(*core.Config)) *pool.Pool {
	t.Helper()
	var groups [2][]pool.Line
	device := newHSM(t)
	for i, addrs := range [][]string{primary, secondary} {
		for _, addr := range addrs {
			cfg := config(addr)
			for _, c := range change {
				c(&cfg)
			}
			one, err := core.New(cfg, device)
			if err != nil {
				t.Fatal(err)
			}
			groups[i] = append(groups[i], one)
		}
	}
	p, err := pool.New(pool.Config{Name: "bank", Primary: groups[0], Secondary: groups[1]})
	if err == nil {
		err = p.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, p) })
	return p
}

// TestPoolConformance: several lines to one bank are as exact about outcomes as one.
func TestPoolConformance(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T, b *bank.Bank) host.Host {
		return pooled(t, []string{b.Addr(), b.Addr()}, []string{b.Addr()})
	})
}

// TestPoolChangesToTheSecondary: with the primary site gone the secondary one takes over, and hands back when it has returned.
func TestPoolChangesToTheSecondary(t *testing.T) {
	t.Parallel()
	first, second := newBank(t), newBank(t)
	p := pooled(t, []string{first.Addr(), first.Addr()}, []string{second.Addr()})
	n := 0
	buy := func() {
		t.Helper()
		n++
		if r := p.Exchange(t.Context(), purchase(t, n)); r.Outcome != txn.Answered || r.Reply.Code != "00" {
			t.Fatalf("%+v", r)
		}
	}
	booked := func(b *bank.Bank) int64 { return b.Book().Totals.BookedAmount }
	until := func(what string, ok func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for !ok() {
			if ctx.Err() != nil {
				t.Fatal("waited in vain for ", what)
			}
			buy()
		}
	}
	hosttest.AwaitReady(t, p)
	until("the primary site", func() bool { return booked(first) > 0 })
	before := booked(second)
	faults(t, first, bank.Fault{Kind: bank.Down})
	hosttest.AwaitReady(t, p)
	for r := (host.Result{}); r.Outcome != txn.Answered; { // what was just on a line that ended may be unknown
		n++
		r = p.Exchange(t.Context(), purchase(t, n))
		if t.Context().Err() != nil {
			t.Fatal(r.Err)
		}
	}
	until("the secondary site", func() bool { return booked(second) > before })
	faults(t, first)
	was := booked(first)
	until("the return to the primary site", func() bool { return booked(first) > was })
}

// TestAgreedCodes: what a bank and we have agreed on stands before the built-in table, and cannot turn an approval round.
func TestAgreedCodes(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr(), func(c *core.Config) { c.Codes = map[string]string{"ZZ": "05", "16": "11", "51": "61", "77": "91"} })
	hosttest.AwaitReady(t, h)
	for i, test := range [][2]string{{"ZZ", "05"}, {"16", "11"}, {"51", "61"}, {"77", "91"}, {"12", "12"}, {"08", ""}} {
		faults(t, b, bank.Fault{Kind: bank.ForceCode, MTI: "0200", ResponseCode: test[0]})
		if r := h.Exchange(t.Context(), purchase(t, i+1)); r.Reply.Code != test[1] || (r.Outcome == txn.Answered) != (test[1] != "") {
			t.Errorf("code %s: %+v, want %q", test[0], r, test[1])
		}
	}
	for want, codes := range map[string]map[string]string{
		`"5" is no response code`:                      {"5": "05"},
		`"a1" is no response code`:                     {"a1": "05"},
		`05: a terminal cannot be told "77"`:           {"05": "77"},
		`05: a terminal cannot be told "ZZ"`:           {"05": "ZZ"},
		"51 to 00 would make an approval of a refusal": {"51": "00"},
		"11 to 05 would make an approval of a refusal": {"11": "05"},
	} {
		cfg := config("127.0.0.1:1")
		cfg.Codes = codes
		if _, err := core.New(cfg, newHSM(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", codes, err, want)
		}
	}
}
