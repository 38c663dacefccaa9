package bank

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func set(tb testing.TB, b *Bank, faults ...Fault) {
	tb.Helper()
	if err := b.SetFaults(faults...); err != nil {
		tb.Fatal(err)
	}
}

// TestFaultsOnOneAnswer looks at one purchase under one fault, and at the next one, which must be good again.
func TestFaultsOnOneAnswer(t *testing.T) {
	t.Parallel()
	const nothing, ended = "nothing", "ended"
	for _, tc := range []struct {
		fault  Fault
		answer string // A response code, nothing, or ended.
		booked int
		check  func(t *testing.T, c *client, r reply)
	}{
		{Fault{Kind: Late, DelayMS: 30}, "00", 1, nil},
		{Fault{Kind: NoAnswer}, nothing, 1, nil},
		{Fault{Kind: LoseRequest}, nothing, 0, nil},
		{Fault{Kind: DoubleAnswer}, "00", 1, func(t *testing.T, c *client, r reply) {
			if again := c.read(); again.fields[128] != r.fields[128] {
				t.Error("the second answer is another one")
			}
		}},
		{Fault{Kind: WrongMAC}, "00", 1, func(t *testing.T, _ *client, r reply) {
			if r.macOK {
				t.Error("MAC is right")
			}
		}},
		{Fault{Kind: WrongTrace}, "00", 1, func(t *testing.T, _ *client, r reply) {
			if r.fields[11] != "000002" || !r.macOK {
				t.Errorf("trace %s, MAC right: %v", r.fields[11], r.macOK)
			}
		}},
		{Fault{Kind: WrongAmount}, "00", 1, func(t *testing.T, _ *client, r reply) {
			if r.fields[4] != "000000000101" || !r.macOK {
				t.Errorf("amount %s, MAC right: %v", r.fields[4], r.macOK)
			}
		}},
		{Fault{Kind: CutFrame}, ended, 1, nil},
		{Fault{Kind: CloseInstead}, ended, 1, nil},
		{Fault{Kind: ForceCode, ResponseCode: "05"}, "05", 0, nil},
	} {
		t.Run(string(tc.fault.Kind), func(t *testing.T) {
			t.Parallel()
			b := newBank(t)
			c := signedOn(t, b)
			tc.fault.MTI, tc.fault.Next = "0200", 1
			set(t, b, tc.fault)
			c.exchange("0800", network("301")).want(t, "0810", "00") // Another MTI.
			if n := len(b.Faults()); n != 1 {
				t.Fatalf("%d faults before", n)
			}
			c.send("0200", purchase(1))
			switch tc.answer {
			case nothing:
				// What comes next is the echo's answer.
				c.exchange("0800", network("301")).want(t, "0810", "00")
			case ended:
				rest, err := io.ReadAll(c.in)
				if cut := tc.fault.Kind == CutFrame; err != nil || (len(rest) > 0) != cut {
					t.Errorf("%d bytes before the end, error %v", len(rest), err)
				}
				c = signedOn(t, b)
			default:
				r := c.read()
				if r.mti != "0210" || r.fields[39] != tc.answer {
					t.Fatalf("answer %s %s", r.mti, r.fields[39])
				}
				if tc.check != nil {
					tc.check(t, c, r)
				}
			}
			if n := len(b.Faults()); n != 0 {
				t.Errorf("%d faults after their only message", n)
			}
			if n := b.Book().Totals.Booked; n != tc.booked {
				t.Errorf("%d booked, want %d", n, tc.booked)
			}
			c.exchange("0200", purchase(2)).want(t, "0210", "00")
			c.exchange("0400", reversal(purchase(2))).want(t, "0410", "00")
			seen := 0
			for _, e := range b.History(0) {
				if len(e.Faults) > 0 {
					seen++
				}
			}
			if seen != 1 {
				t.Errorf("history has %d messages with faults", seen)
			}
			checkBooks(t, b)
		})
	}
}

func TestForcedCodeIsRemembered(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	set(t, b, Fault{Kind: ForceCode, ResponseCode: "96", Next: 1, MTI: "0200"}, Fault{Kind: ForceCode, ResponseCode: "96", Next: 2, MTI: "0400"})
	c.exchange("0200", purchase(1)).want(t, "0210", "96")
	c.exchange("0200", purchase(1)).want(t, "0210", "96") // The stored answer.
	c.exchange("0200", purchase(2)).want(t, "0210", "00")
	r := reversal(purchase(2))
	c.exchange("0400", r).want(t, "0410", "96")
	c.exchange("0400", r).want(t, "0410", "96")
	c.exchange("0401", r).want(t, "0410", "00") // A refused reversal has changed nothing.
	set(t, b, Fault{Kind: ForceCode, ResponseCode: "91", Next: 1})
	other := dial(t, b)
	other.exchange("0800", network("001")).want(t, "0810", "91")
	other.exchange("0200", purchase(3)).want(t, "0210", "12") // Was not signed on.
	checkBooks(t, b)
}

func TestLateAnswerIsOvertaken(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	set(t, b, Fault{Kind: Late, DelayMS: 100, Next: 1, MTI: "0200"})
	c.send("0200", purchase(1))
	c.send("0200", purchase(2))
	first, second := c.read(), c.read()
	if first.fields[11] != "000002" || second.fields[11] != "000001" {
		t.Errorf("answers came as %s, %s", first.fields[11], second.fields[11])
	}
}

func TestHoldAndRelease(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	set(t, b, Fault{Kind: Hold, MTI: "0200"})
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.WaitHeld(short, "0200"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("nothing is held, error %v", err)
	}
	c.send("0200", purchase(1))
	c.send("0200", purchase(2))
	ctx, stopWaiting := context.WithTimeout(t.Context(), patient)
	defer stopWaiting()
	for _, mti := range []string{"0200", ""} {
		if err := b.WaitHeld(ctx, mti); err != nil {
			t.Fatal(err)
		}
	}
	c.exchange("0800", network("301")).want(t, "0810", "00")
	if n := b.Book().Totals.Booked; n != 2 {
		t.Errorf("%d booked while held", n)
	}
	set(t, b)
	if n := b.Release(); n != 2 {
		t.Errorf("released %d", n)
	}
	for _, trace := range []string{"000001", "000002"} {
		if r := c.read(); r.fields[11] != trace || r.fields[39] != "00" {
			t.Errorf("answer %s %s, want %s", r.fields[11], r.fields[39], trace)
		}
	}
	if n := b.Release(); n != 0 {
		t.Errorf("released %d again", n)
	}
}

func TestRefuseAndMend(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	addr := b.Addr()
	c := signedOn(t, b)
	set(t, b, Fault{Kind: Refuse})
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Fatal("a connection was taken")
	}
	c.exchange("0200", purchase(1)).want(t, "0210", "00") // Living connections go on.
	set(t, b, Fault{Kind: Down})
	if _, err := c.tryRead(); err == nil {
		t.Fatal("the connection lives")
	}
	set(t, b)
	if b.Addr() != addr {
		t.Fatalf("listens on %s, was %s", b.Addr(), addr)
	}
	signedOn(t, b).exchange("0200", purchase(2)).want(t, "0210", "00")
}

func TestTimedDown(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	set(t, b, Fault{Kind: Down, DelayMS: 50}, Fault{Kind: WrongMAC, MTI: "0400"})
	if _, err := c.tryRead(); err == nil {
		t.Fatal("the connection lives")
	}
	end := time.Now().Add(patient)
	for {
		conn, err := net.Dial("tcp", b.Addr())
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("the bank does not come back")
		}
		time.Sleep(5 * time.Millisecond) // A refused connection gives no signal to wait for.
	}
	if left := b.Faults(); len(left) != 1 || left[0].Kind != WrongMAC {
		t.Errorf("faults left: %+v", left)
	}
	// Stop in the middle of a timed fault leaves no timer that listens again.
	set(t, b, Fault{Kind: Down, DelayMS: 20})
	stop(t, b)
	if err := b.SetFaults(); err != nil {
		t.Errorf("faults after stop: %v", err)
	}
}

func TestFaultBeforeStart(t *testing.T) {
	t.Parallel()
	b, err := New(Config{Addr: "127.0.0.1:0", ZPK: unhex(t, testZPK), ZAK: unhex(t, testZAK)})
	if err != nil {
		t.Fatal(err)
	}
	set(t, b, Fault{Kind: Refuse})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer stop(t, b)
	if conn, err := net.Dial("tcp", b.Addr()); err == nil {
		_ = conn.Close()
		t.Error("a connection was taken")
	}
	set(t, b)
	signedOn(t, b)
}

func TestFaultRefusals(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	for want, f := range map[string]Fault{
		"unknown fault kind":  {Kind: "slow"},
		"mti must be":         {Kind: NoAnswer, MTI: "200"},
		"next must not":       {Kind: NoAnswer, Next: -1},
		"delay_ms is needed":  {Kind: Late},
		"only for late":       {Kind: NoAnswer, DelayMS: 5},
		"delay_ms must be":    {Kind: Late, DelayMS: int(time.Hour / time.Millisecond)},
		"other than 00":       {Kind: ForceCode, ResponseCode: "00"},
		"two letters":         {Kind: ForceCode},
		"response_code is":    {Kind: Late, DelayMS: 1, ResponseCode: "05"},
		"make no sense":       {Kind: Down, MTI: "0200"},
		"next make no sense ": {Kind: Refuse, Next: 1},
	} {
		set(t, b, Fault{Kind: WrongMAC, MTI: "0400"})
		if err := b.SetFaults(f); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%+v: error %v, want one with %q", f, err, want)
		}
		if len(b.Faults()) != 1 {
			t.Error("refused faults have replaced the old ones")
		}
	}
	if err := b.SetFaults(make([]Fault, maxFaults+1)...); err == nil {
		t.Error("too many faults were taken")
	}
}

func TestWaitingAnswersAreBounded(t *testing.T) {
	t.Parallel()
	h := newHeldAnswers()
	for range maxWaiting {
		if !h.reserve() {
			t.Fatal("no place below the bound")
		}
	}
	if h.reserve() {
		t.Error("a place beyond the bound")
	}
	h.free()
	if !h.reserve() {
		t.Error("a free place is not given")
	}
}
