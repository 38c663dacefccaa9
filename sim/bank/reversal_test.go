package bank

import (
	"sync"
	"testing"
)

// step is one message of a story about a purchase and its reversal.
type step struct {
	mti  string
	in   fields
	want string
}

func TestReversalStories(t *testing.T) {
	t.Parallel()
	p := purchase(1)
	r := reversal(p)
	buy, buyRefused := step{"0200", p, "00"}, step{"0200", p, "94"}
	undo, undoAgain := step{"0400", r, "00"}, step{"0401", r.with(7, "0309233210"), "00"}
	unknown := step{"0400", r, "25"}
	tooMuch := p.with(4, "000200000000")
	for name, tc := range map[string]struct {
		steps []step
		state string
		left  int64 // Of the account, relative to the opening.
	}{
		"after":              {[]step{buy, undo}, stateReversed, 0},
		"twice":              {[]step{buy, undo, undo, undoAgain, undoAgain}, stateReversed, 0},
		"as repeat at once":  {[]step{buy, undoAgain}, stateReversed, 0},
		"before":             {[]step{unknown, buyRefused}, stateTombstone, 0},
		"before, many times": {[]step{unknown, buyRefused, {"0401", r, "25"}, buyRefused}, stateTombstone, 0},
		"of a declined one":  {[]step{{"0200", tooMuch, "51"}, {"0400", reversal(tooMuch), "00"}, {"0200", tooMuch, "51"}}, stateDeclined, 0},
		"late original gets the old answer": {
			[]step{buy, undo, buy}, stateReversed, 0,
		},
		"other time in 7 and 90": {[]step{buy, {"0400", reversal(p.with(7, "0309232959")), "00"}}, stateReversed, 0},
		"other amount":           {[]step{buy, {"0400", r.with(4, "000000000099"), "30"}}, stateBooked, -100},
		"other card":             {[]step{buy, {"0400", r.with(2, card2), "30"}}, stateBooked, -100},
		"other MTI in 90":        {[]step{buy, {"0400", r.with(90, "0100"+r[90][4:]), "30"}}, stateBooked, -100},
		"repeat of the purchase": {[]step{buy, buy, {"0200", p.with(7, "0309233111"), "00"}}, stateBooked, -100},
		"same key, other amount": {[]step{buy, {"0200", p.with(4, "000000000200"), "94"}}, stateBooked, -100},
		"same key, other card":   {[]step{buy, {"0200", p.with(2, card2), "94"}}, stateBooked, -100},
		"same key, other type":   {[]step{buy, {"0200", p.with(3, "310000", 4, nil), "94"}}, stateBooked, -100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBank(t)
			c := signedOn(t, b)
			var auth string
			for i, s := range tc.steps {
				got := c.exchange(s.mti, s.in)
				got.want(t, s.mti[:2]+"10", s.want)
				if s.mti == "0200" && s.want == "00" {
					if auth != "" && got.fields[38] != auth {
						t.Errorf("step %d: authorisation %s, first %s", i, got.fields[38], auth)
					}
					auth = got.fields[38]
				}
			}
			view := b.Book()
			if len(view.Bookings) != 1 || view.Bookings[0].State != tc.state {
				t.Errorf("bookings %+v", view.Bookings)
			}
			if left := balanceOf(t, b, card1) - opening; left != tc.left {
				t.Errorf("balance moved by %d, want %d", left, tc.left)
			}
			checkBooks(t, b)
		})
	}
}

func TestKeyParts(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	for _, f := range []fields{
		purchase(1), purchase(1).with(11, "000002"), purchase(1).with(37, "260300000009"), purchase(1).with(41, "10000002"),
		purchase(1).with(32, "20410000"),
	} {
		c.exchange("0200", f).want(t, "0210", "00")
	}
	if view := b.Book(); view.Totals.Booked != 5 || view.Totals.Duplicates != 0 {
		t.Errorf("totals %+v", view.Totals)
	}
	// A reversal takes back its own only.
	c.exchange("0400", reversal(purchase(1).with(41, "10000002"))).want(t, "0410", "00")
	for _, k := range b.Book().Bookings {
		if (k.State == stateReversed) != (k.Terminal == "10000002") {
			t.Errorf("booking %+v", k)
		}
	}
}

// TestRace sends a purchase, its repeat and its reversal at once on several connections: whatever comes first, each
// purchase ends reversed or never booked, and the money is whole.
func TestRace(t *testing.T) {
	t.Parallel()
	const connections, purchases = 4, 50
	b := newBank(t)
	var work sync.WaitGroup
	for i := range connections {
		c := signedOn(t, b)
		work.Go(func() {
			for n := range purchases {
				p := purchase(n)
				first, second := "0200", "0400"
				f, g := p, reversal(p)
				if i%2 == 1 {
					first, second, f, g = second, first, g, f
				}
				c.send(first, f)
				c.send(second, g)
				for range 2 {
					if _, err := c.tryRead(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	work.Wait()
	view := b.Book()
	if len(view.Bookings) != purchases {
		t.Errorf("%d records of %d purchases", len(view.Bookings), purchases)
	}
	for _, k := range view.Bookings {
		if k.State != stateReversed && k.State != stateTombstone {
			t.Errorf("trace %s ended %s", k.Trace, k.State)
		}
	}
	if left := balanceOf(t, b, card1); left != opening {
		t.Errorf("balance %d", left)
	}
	checkBooks(t, b)
}

func TestBookForgetsTheOldest(t *testing.T) {
	t.Parallel()
	b, err := newBook(DefaultAccounts(), digestKey{})
	if err != nil {
		t.Fatal(err)
	}
	acc := b.accounts[card1]
	k := kindsByName["purchase"]
	req := func(n int) request {
		return request{key: txKey{trace: [6]byte{byte(n), byte(n >> 8), byte(n >> 16)}}, mti: "0200", kind: k, account: acc, amount: 1}
	}
	for n := range maxRecords + 2 {
		if out := b.transact(req(n)); !out.moved {
			t.Fatalf("purchase %d: %s", n, out.code)
		}
	}
	if len(b.records) != maxRecords || len(b.ring) != maxRecords || b.totals.Forgotten != 2 {
		t.Errorf("%d records, %d in the ring, %d forgotten", len(b.records), len(b.ring), b.totals.Forgotten)
	}
	if out := b.reverse(req(2)); out.code != codeApproved || !out.moved {
		t.Errorf("oldest kept: %+v", out)
	}
	if out := b.reverse(req(1)); out.code != codeNotFound {
		t.Errorf("forgotten: %+v", out)
	}
}
