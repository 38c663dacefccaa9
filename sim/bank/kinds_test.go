package bank

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// asked is what one transaction of a story is: its kind, written down from docs/dialect-core.md §5 a second time.
type asked struct{ mti, processing, condition, code string }

var table = map[string]asked{
	"purchase": {"0200", "000000", "00", "22"}, "balance": {"0200", "310000", "00", "01"}, "purchase_void": {"0200", "200000", "00", "23"},
	"refund": {"0220", "200000", "00", "25"}, "preauth": {"0100", "030000", "06", "10"}, "preauth_void": {"0100", "200000", "06", "11"},
	"completion": {"0200", "000000", "06", "20"}, "completion_void": {"0200", "200000", "06", "21"},
	"completion_advice": {"0220", "000000", "06", "24"}, "offline_settlement": {"0220", "000000", "00", "30"},
	"adjustment": {"0220", "000000", "00", "32"}, "tip_adjustment": {"0220", "000000", "00", "34"},
	"offline_purchase": {"0200", "000000", "00", "36"}, "offline_refund": {"0220", "200000", "00", "27"},
	"script_result": {"0620", "000000", "00", "22"},
}

// sent is a message of a story.
type sent struct {
	mti string
	fields
}

// ask makes a message of a kind; trace makes it unique.
func ask(kind string, trace int, amount int64) sent {
	a := table[kind]
	f := purchase(trace).with(3, a.processing, 25, a.condition, 60, a.code, 4, fmt.Sprintf("%012d", amount))
	switch kind {
	case "balance":
		f = f.with(4, nil)
	case "script_result":
		f = f.with(55, "DF31050123456789")
	}
	return sent{a.mti, f}
}

// of names an original.
func (s sent) of(o sent) sent {
	s.fields = s.with(61, o.fields[37], 90, o.mti+o.fields[11]+o.fields[7]+fmt.Sprintf("%011s", o.fields[32])+strings.Repeat("0", 11))
	return s
}

func (s sent) change(changes ...any) sent {
	s.fields = s.with(changes...)
	return s
}

// back is the reversal of a message.
func (s sent) back() sent {
	r := reversal(s.fields).with(61, nil, 38, nil)
	r[90] = s.mti + r[90][4:]
	return sent{"0400", r}
}

// act is one step of a story: a message, the code it must get, and what the account must have and hold afterwards, relative to the opening
// balance.
type act struct {
	sent
	want       string
	left, held int64
}

func tell(t *testing.T, c *client, b *Bank, story []act) {
	t.Helper()
	for i, a := range story {
		got := c.exchange(a.mti, a.fields)
		want := a.mti[:2] + string(a.mti[2]+1) + "0"
		if got.mti != want || got.fields[39] != a.want || !got.macOK {
			t.Fatalf("step %d (%s, type %s): answer %s %s, want %s %s: %s", i, a.mti, a.fields[60], got.mti, got.fields[39], want, a.want, b.History(1)[0].Note)
		}
		account := accountOf(t, b, a.fields[2])
		if account.Balance-account.Opening != a.left || account.Held != a.held {
			t.Fatalf("step %d (%s, type %s): moved by %d, held %d; want %d, %d", i, a.mti, a.fields[60], account.Balance-account.Opening, account.Held, a.left, a.held)
		}
		checkBooks(t, b)
	}
}

func accountOf(tb testing.TB, b *Bank, pan string) Balance {
	tb.Helper()
	for _, a := range b.Book().Balances {
		if a.PAN == maskPAN(pan) {
			return a
		}
	}
	tb.Fatal("no such account")
	return Balance{}
}

func TestStories(t *testing.T) {
	t.Parallel()
	buy, void := ask("purchase", 1, 100), ask("purchase_void", 2, 100).of(ask("purchase", 1, 100))
	hold := ask("preauth", 1, 100)
	release := ask("preauth_void", 2, 100).of(hold)
	complete := ask("completion", 3, 80).of(hold)
	uncomplete := ask("completion_void", 4, 80).of(complete)
	again := ask("completion", 5, 90).of(hold)
	advise := ask("completion_advice", 3, 115).of(hold)
	refund := func(trace int, amount int64) sent { return ask("refund", trace, amount).of(buy) }
	offline := ask("offline_settlement", 1, 100)
	tip := func(trace int, total int64, of sent) sent { return ask("tip_adjustment", trace, total).of(of) }
	for name, story := range map[string][]act{
		"void":                      {{buy, "00", -100, 0}, {void, "00", 0, 0}, {void, "00", 0, 0}, {ask("purchase_void", 9, 100).of(buy), "25", 0, 0}},
		"void of what is not there": {{void, "25", 0, 0}, {buy, "00", -100, 0}},
		"void of a declined one":    {{buy.change(2, card3).change(4, "000200000000"), "51", 0, 0}, {void.change(2, card3, 4, "000200000000"), "25", 0, 0}},
		"void of another amount":    {{buy, "00", -100, 0}, {void.change(4, "000000000099"), "64", -100, 0}},
		"void of another card":      {{buy, "00", -100, 0}, {void.change(2, card2), "25", 0, 0}},
		"void of another merchant":  {{buy, "00", -100, 0}, {void.change(42, "104110000000002"), "25", -100, 0}},
		"void of another kind":      {{hold, "00", 0, 100}, {ask("purchase_void", 2, 100).of(hold), "25", 0, 100}},
		"void with a wrong MTI":     {{buy, "00", -100, 0}, {void.change(90, "0100"+void.fields[90][4:]), "25", -100, 0}},
		"void, other content":       {{buy, "00", -100, 0}, {void, "00", 0, 0}, {void.of(hold), "94", 0, 0}, {void.change(4, "000000000099"), "94", 0, 0}},
		"void of a reversed one":    {{buy, "00", -100, 0}, {buy.back(), "00", 0, 0}, {void, "25", 0, 0}},
		"void reversed":             {{buy, "00", -100, 0}, {void, "00", 0, 0}, {void.back(), "00", -100, 0}, {void.back(), "00", -100, 0}, {ask("purchase_void", 9, 100).of(buy), "00", 0, 0}},
		"void reversed before":      {{buy, "00", -100, 0}, {void.back(), "25", -100, 0}, {void, "94", -100, 0}},
		"purchase reversed after its void": {
			{buy, "00", -100, 0}, {void, "00", 0, 0}, {buy.back(), "00", 0, 0}, {void.back(), "00", 0, 0},
		},
		"void with a PIN": {{buy, "00", -100, 0}, {sent{void.mti, void.withPIN(t, "999999")}, "55", -100, 0}, {ask("purchase_void", 9, 100).of(buy), "00", 0, 0}},

		"refunds": {
			{buy, "00", -100, 0}, {refund(2, 60), "00", -40, 0}, {refund(3, 41), "64", -40, 0}, {refund(4, 40), "00", 0, 0}, {refund(5, 1), "64", 0, 0},
			{refund(2, 60), "00", 0, 0},
		},
		"refund, then void":      {{buy, "00", -100, 0}, {refund(2, 60), "00", -40, 0}, {void.change(11, "000009"), "25", -40, 0}},
		"refund, then reversal":  {{buy, "00", -100, 0}, {refund(2, 60), "00", -40, 0}, {buy.back(), "00", 0, 0}},
		"refund is not reversed": {{buy, "00", -100, 0}, {refund(2, 60), "00", -40, 0}, {refund(2, 60).back(), "12", -40, 0}},
		"refund without original": {
			{ask("offline_refund", 1, 50), "00", 50, 0}, {ask("refund", 2, 50), "30", 50, 0}, {ask("offline_refund", 3, 50).of(buy), "00", 100, 0},
		},
		"offline refund of a purchase": {{buy, "00", -100, 0}, {ask("offline_refund", 2, 101).of(buy), "64", -100, 0}, {ask("offline_refund", 3, 100).of(buy), "00", 0, 0}},

		"hold":             {{hold, "00", 0, 100}, {hold, "00", 0, 100}, {hold.back(), "00", 0, 0}, {hold, "00", 0, 0}},
		"hold and release": {{hold, "00", 0, 100}, {release, "00", 0, 0}, {ask("preauth_void", 9, 100).of(hold), "25", 0, 0}, {complete, "25", 0, 0}},
		"release reversed": {{hold, "00", 0, 100}, {release, "00", 0, 0}, {release.back(), "00", 0, 100}, {complete, "00", -80, 0}},
		"release of less":  {{hold, "00", 0, 100}, {release.change(4, "000000000099"), "64", 0, 100}},
		"completion":       {{hold, "00", 0, 100}, {complete, "00", -80, 0}, {again, "25", -80, 0}, {release, "25", -80, 0}},
		"completion of 115 %": {
			{hold, "00", 0, 100}, {complete.change(4, "000000000116"), "64", 0, 100}, {ask("completion", 9, 115).of(hold), "00", -115, 0},
		},
		"completion reversed": {{hold, "00", 0, 100}, {complete, "00", -80, 0}, {complete.back(), "00", 0, 100}, {again, "00", -90, 0}},
		"completion voided":   {{hold, "00", 0, 100}, {complete, "00", -80, 0}, {uncomplete, "00", 0, 100}, {again, "00", -90, 0}},
		"completion void reversed": {
			{hold, "00", 0, 100}, {complete, "00", -80, 0}, {uncomplete, "00", 0, 100}, {uncomplete.back(), "00", -80, 0}, {release, "25", -80, 0},
		},
		"completion void reversed too late": {
			{hold, "00", 0, 100}, {complete, "00", -80, 0}, {uncomplete, "00", 0, 100}, {again, "00", -90, 0}, {uncomplete.back(), "00", -80, 0},
		},
		"hold reversed after all": {
			{hold, "00", 0, 100}, {complete, "00", -80, 0}, {uncomplete, "00", 0, 100}, {again, "00", -90, 0}, {hold.back(), "00", 0, 0},
			{again.back(), "00", 0, 0},
		},
		"completion refunded": {{hold, "00", 0, 100}, {complete, "00", -80, 0}, {ask("refund", 9, 30).of(complete), "00", -50, 0}, {uncomplete, "25", -50, 0}},
		"completion advice":   {{hold, "00", 0, 100}, {advise, "00", -115, 0}, {sent{"0221", advise.fields}, "00", -115, 0}, {advise.back(), "12", -115, 0}},
		"completion advice voided": {
			{hold, "00", 0, 100}, {advise, "00", -115, 0}, {ask("completion_void", 9, 115).of(advise), "00", 0, 100},
			{ask("completion_void", 9, 115).of(advise).back(), "00", -115, 0}, {hold.back(), "00", 0, 0},
		},
		"advices without an original": {{advise.change(61, nil, 90, nil), "25", 0, 0}, {tip(4, 100, offline).change(61, nil, 90, nil), "25", 0, 0}},
		"completion without a hold":   {{complete, "25", 0, 0}, {advise.change(11, "000009"), "25", 0, 0}},
		"completion by code": {
			{hold, "00", 0, 100}, {ask("completion", 3, 80).change(38, "000009"), "25", 0, 100}, {ask("completion", 4, 80).change(38, "000001"), "00", -80, 0},
		},
		"hold at one terminal, completion at another": {{hold, "00", 0, 100}, {complete.change(41, "10000002"), "00", -80, 0}},

		"holds use up the money": {
			{ask("preauth", 1, opening), "00", 0, opening}, {ask("purchase", 2, 1), "51", 0, opening}, {ask("preauth", 3, 1), "51", 0, opening},
			{ask("completion", 4, opening+1).of(ask("preauth", 1, opening)), "51", 0, opening},
			{ask("completion_advice", 5, opening+1).of(ask("preauth", 1, opening)), "00", -opening - 1, 0},
		},
		"offline": {
			{offline, "00", -100, 0}, {sent{"0221", offline.fields}, "00", -100, 0}, {ask("offline_purchase", 2, 50), "00", -150, 0},
			{ask("offline_settlement", 3, opening), "00", -150 - opening, 0}, {ask("purchase", 4, 1), "51", -150 - opening, 0},
			{ask("refund", 5, 50).of(ask("offline_purchase", 2, 50)), "00", -100 - opening, 0},
		},
		"offline with a code by voice": {{offline.change(38, "123456"), "00", -100, 0}},
		"adjustments": {
			{offline, "00", -100, 0}, {tip(2, 120, offline), "00", -120, 0}, {tip(2, 120, offline), "00", -120, 0}, {tip(3, 110, offline), "00", -110, 0},
			{ask("refund", 4, 111).of(offline), "64", -110, 0}, {ask("refund", 5, 110).of(offline), "00", 0, 0}, {tip(6, 130, offline), "25", 0, 0},
		},
		"purchase with a tip": {
			{buy, "00", -100, 0}, {tip(2, 120, buy), "00", -120, 0}, {void.change(11, "000009", 4, "000000000110"), "64", -120, 0},
			{ask("purchase_void", 10, 120).of(buy), "00", 0, 0}, {ask("adjustment", 11, 5).of(buy), "25", 0, 0}, {buy.back(), "00", 0, 0},
		},
		"void that does not follow a tip": {{buy, "00", -100, 0}, {tip(7, 120, buy), "00", -120, 0}, {void, "00", 0, 0}, {void.back(), "00", -120, 0}, {buy.back(), "00", 0, 0}},
		"purchase with a tip reversed":    {{buy, "00", -100, 0}, {tip(2, 120, buy), "00", -120, 0}, {buy.back(), "00", 0, 0}},
		"notice": {
			{buy, "00", -100, 0}, {ask("script_result", 2, 100).of(buy), "00", -100, 0}, {sent{"0621", ask("script_result", 2, 100).of(buy).fields}, "00", -100, 0},
			{void, "94", -100, 0}, {ask("purchase_void", 7, 100).of(buy), "00", 0, 0}, {ask("script_result", 3, 100).of(buy), "00", 0, 0}, {buy.back(), "00", 0, 0},
		},
		"notice of nothing":   {{ask("script_result", 2, 100).of(buy), "25", 0, 0}},
		"nothing to be moved": {{ask("refund", 1, 0).of(buy), "30", 0, 0}, {ask("preauth", 2, 0), "30", 0, 0}, {ask("offline_refund", 3, 0), "30", 0, 0}},
		"unknown card":        {{buy, "00", -100, 0}, {ask("preauth", 2, 1), "00", -100, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "bank.json")
			b := newBank(t, withState(path))
			tell(t, signedOn(t, b), b, story)
			stop(t, b)
			restarted := newBank(t, withState(path))
			if got, want := asJSON(t, restarted.Book()), asJSON(t, b.Book()); got != want {
				t.Errorf("after a restart %s\nbefore %s", got, want)
			}
		})
	}
}

// TestStoriesOverRestart has the bank stop after every message: what stands in the state file is all that the next message needs.
func TestStoriesOverRestart(t *testing.T) {
	t.Parallel()
	hold := ask("preauth", 1, 100)
	complete, buy := ask("completion", 2, 80).of(hold), ask("purchase", 6, 50)
	uncomplete := ask("completion_void", 3, 80).of(complete)
	path := filepath.Join(t.TempDir(), "bank.json")
	for _, a := range []act{
		{hold, "00", 0, 100}, {complete, "00", -80, 0}, {uncomplete, "00", 0, 100}, {uncomplete.back(), "00", -80, 0},
		{ask("completion_void", 4, 80).of(complete), "00", 0, 100}, {ask("completion", 5, 70).change(38, "000001"), "00", -70, 0},
		{buy, "00", -120, 0}, {ask("refund", 7, 20).of(buy), "00", -100, 0}, {ask("refund", 8, 31).of(buy), "64", -100, 0}, {buy.back(), "00", -70, 0},
		{hold.back(), "00", 0, 0},
	} {
		b := newBank(t, withState(path))
		tell(t, signedOn(t, b), b, []act{a})
		stop(t, b)
	}
}

// TestVersion1IsRead: what an older bank wrote is still there, and can be refunded and reversed.
func TestVersion1IsRead(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	key := b.digest
	record := func(trace, state, account string) string {
		m := &message{}
		m.reset()
		f := purchase(1)
		for _, n := range []int{2, 3, 4} {
			m.set(n, f[n])
		}
		return fmt.Sprintf(`{"key":"00010410000260300000%s10000001000%s","mti":"0200","kind":"purchase","content":"%x","account":%s,"pan":"x","amount":100,`+
			`"state":%q,"code":"00","auth":"000%s","settled":"0309","at":"2026-03-09T10:00:00Z"}`, trace, trace, key.content(m), account, state, trace)
	}
	path := filepath.Join(t.TempDir(), "bank.json")
	old := fmt.Sprintf(`{"version":1,"key_check":%q,"auth_seq":2,"totals":{"booked":2,"booked_amount":200,"reversed":1,"reversed_amount":100},`+
		`"accounts":[{"digest":%q,"pan":"x","opening":%d,"balance":%d,"wrong_pins":0}],"records":[%s,%s]}`,
		key.of(""), key.of(card1), opening, opening-100, record("001", "booked", "0"), record("002", "reversed", "0"))
	if err := replaceFile(path, []byte(old)); err != nil {
		t.Fatal(err)
	}
	again := newBank(t, withState(path))
	buy := ask("purchase", 1, 100)
	tell(t, signedOn(t, again), again, []act{
		{buy, "00", -100, 0}, {ask("refund", 3, 30).of(buy), "00", -70, 0}, {ask("refund", 4, 30).of(ask("purchase", 2, 100)), "25", -70, 0}, {buy.back(), "00", 0, 0},
	})
}

// TestAnswerOfKinds: what every approved answer has, and that a repeat is the same.
func TestAnswerOfKinds(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	originals := map[string]sent{}
	for i, kind := range []string{
		"purchase", "purchase_void", "offline_settlement", "tip_adjustment", "adjustment", "refund", "preauth", "preauth_void", "preauth", "completion",
		"completion_void", "completion_advice", "offline_purchase", "offline_refund", "script_result",
	} {
		s := ask(kind, i+1, 100)
		switch kind {
		case "purchase_void", "script_result":
			s = s.of(originals["purchase"])
		case "tip_adjustment", "adjustment", "refund":
			s = s.of(originals["offline_settlement"])
		case "preauth_void", "completion", "completion_advice":
			s = s.of(originals["preauth"])
		case "completion_void":
			s = s.of(originals["completion"])
		}
		originals[kind] = s
		first := c.exchange(s.mti, s.fields)
		first.want(t, s.mti[:2]+string(s.mti[2]+1)+"0", "00")
		if (first.fields[38] == "") != (kind == "script_result") || first.fields[15] != "0309" || first.fields[54] != "" || first.fields[61] != "" {
			t.Errorf("%s: answer %v", kind, first.fields)
		}
		for _, field := range []int{2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49} {
			if first.fields[field] != s.fields[field] {
				t.Errorf("%s: field %d is not echoed", kind, field)
			}
		}
		repeat := c.exchange(s.mti, s.fields)
		if fmt.Sprint(repeat.fields) != fmt.Sprint(first.fields) {
			t.Errorf("%s: repeat %v, first %v", kind, repeat.fields, first.fields)
		}
		if h := b.History(2); h[0].Kind != kind || h[0].Booked != (kind != "script_result") || !h[1].Duplicate {
			t.Errorf("%s: history %+v", kind, h)
		}
	}
}

// TestAvailable: a balance inquiry tells what is left after holds, also below zero.
func TestAvailable(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	for i, step := range []struct {
		do   sent
		tell string
	}{
		{ask("preauth", 1, 100), "0002156C000099999900"}, {ask("offline_settlement", 2, opening), "0002156D000000000100"},
	} {
		c.exchange(step.do.mti, step.do.fields).want(t, step.do.mti[:2]+string(step.do.mti[2]+1)+"0", "00")
		if got := c.exchange("0200", ask("balance", 10+i, 0).fields); got.fields[54] != step.tell {
			t.Errorf("available %q, want %q", got.fields[54], step.tell)
		}
	}
}

// TestFaultsOfKinds: every fault that keeps an answer back still lets the message work, once.
func TestFaultsOfKinds(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	offline := ask("offline_settlement", 1, 100)
	set(t, b, Fault{Kind: NoAnswer, MTI: "0220", Next: 1}, Fault{Kind: LoseRequest, MTI: "0221", Next: 1}, Fault{Kind: ForceCode, MTI: "0100", ResponseCode: "05"})
	c.send(offline.mti, offline.fields)
	c.send("0221", offline.fields)
	tell(t, c, b, []act{{sent{"0221", offline.fields}, "00", -100, 0}, {ask("preauth", 2, 10), "05", -100, 0}, {ask("preauth", 2, 10).back(), "00", -100, 0}})
	if got := b.Book().Totals; got.Booked != 1 || got.Declined != 1 || got.Duplicates != 1 {
		t.Errorf("totals %+v", got)
	}
}

// TestFamilyRace sends a pre-authorization, its completion, the void of that and all their reversals at once on several connections:
// whatever comes first, the book stays whole, and in the end nothing is taken or held.
func TestFamilyRace(t *testing.T) {
	t.Parallel()
	const families = 30
	b := newBank(t)
	var work sync.WaitGroup
	for i := range 3 {
		c := signedOn(t, b)
		work.Go(func() {
			for n := range families {
				hold := ask("preauth", 10*n+1, 100)
				complete := ask("completion", 10*n+2, 80).of(hold)
				uncomplete := ask("completion_void", 10*n+3, 80).of(complete)
				all := []sent{hold, complete, uncomplete, uncomplete.back(), complete.back(), hold.back()}
				for j := range all {
					c.send(all[(j*(i+1)+i)%len(all)].mti, all[(j*(i+1)+i)%len(all)].fields)
				}
				for range all {
					if _, err := c.tryRead(); err != nil {
						t.Error(err)
						return
					}
				}
				c.send("0401", hold.back().fields)
				if _, err := c.tryRead(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	checkBooks(t, b)
	if a := accountOf(t, b, card1); a.Balance != a.Opening || a.Held != 0 {
		t.Errorf("account %+v", a)
	}
}
