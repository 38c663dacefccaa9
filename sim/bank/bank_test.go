package bank

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	cfg := Config{Addr: "127.0.0.1:0", ZPK: unhex(t, testZPK), ZAK: unhex(t, testZAK)}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	cfg.Addr = b.Addr()
	second, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another bank") {
		t.Errorf("port in use: %v", err)
	}
	c := signedOn(t, b)
	stop(t, b)
	stop(t, b)
	if _, err := c.tryRead(); err == nil {
		t.Error("the connection outlives the bank")
	}
	never, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, never)
	if err := never.Start(t.Context()); err == nil {
		t.Error("started after stop")
	}
}

func TestConfigRefusals(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"zone PIN key":    func(c *Config) { c.ZPK = nil },
		"zone MAC key":    func(c *Config) { c.ZAK = c.ZAK[:8] },
		"host:port":       func(c *Config) { c.Addr = "7101" },
		"issuer code":     func(c *Config) { c.IssuerCode = "123456789012" },
		"PAN must be":     func(c *Config) { c.Accounts = []Account{{PAN: "62220200000x"}} },
		"PIN must be":     func(c *Config) { c.Accounts = []Account{{PAN: card1, PIN: "123"}} },
		"balance must be": func(c *Config) { c.Accounts = []Account{{PAN: card1, Balance: -1}} },
		"twice":           func(c *Config) { c.Accounts = []Account{{PAN: card1}, {PAN: card1}} },
	} {
		cfg := Config{Addr: "127.0.0.1:0", ZPK: unhex(t, testZPK), ZAK: unhex(t, testZAK)}
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		} else if strings.Contains(err.Error(), card1) {
			t.Error("the error shows a PAN")
		}
	}
}

func TestFraming(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	for name, data := range map[string][]byte{
		"length zero":     {0, 0},
		"length too long": {0x08, 0x01, 'x'},
	} {
		c := signedOn(t, b)
		c.write(data)
		if _, err := c.in.ReadByte(); err == nil {
			t.Errorf("%s: an answer came", name)
		} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("%s: the connection stays", name)
		}
	}
	// Bytes in small pieces make the same message.
	c := signedOn(t, b)
	for _, x := range frame(pack(t, "0200", purchase(1))) {
		c.write([]byte{x})
	}
	c.read().want(t, "0210", "00")
	// The longest allowed length is read as one message.
	c.write(frame([]byte("0200" + strings.Repeat("0", maxMessage-4))))
	c.read().want(t, "0210", "30")
	// A peer that closes its half still gets what it asked for.
	c.send("0200", purchase(2))
	if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.read().want(t, "0210", "00")
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// TestPipelined sends many requests before it reads an answer, on several connections.
func TestPipelined(t *testing.T) {
	t.Parallel()
	const connections, each = 8, 200
	b := newBank(t)
	var work sync.WaitGroup
	for i := range connections {
		c := signedOn(t, b)
		work.Go(func() {
			var out []byte
			for n := range each {
				out = append(out, frame(pack(t, "0200", purchase(i*each+n).withPIN(t, "123456")))...)
			}
			if _, err := c.conn.Write(out); err != nil {
				t.Error(err)
				return
			}
			seen := map[string]bool{}
			for range each {
				r, err := c.tryRead()
				if err != nil || r.fields[39] != "00" || !r.macOK || seen[r.fields[11]] {
					t.Errorf("answer %v, error %v", r.fields[39], err)
					return
				}
				seen[r.fields[11]] = true
			}
		})
	}
	work.Wait()
	if left := balanceOf(t, b, card1); left != opening-connections*each*100 {
		t.Errorf("balance %d", left)
	}
	checkBooks(t, b)
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	for range maxSessions {
		signedOn(t, b)
	}
	c := dial(t, b)
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("a connection beyond the bound was served")
	}
}

func TestHistoryRing(t *testing.T) {
	t.Parallel()
	b := &Bank{history: newHistory()}
	for i := range historySize + 5 {
		b.history.add(Entry{Trace: fmt.Sprint(i)})
	}
	all, last := b.History(0), b.History(3)
	if len(all) != historySize || all[0].Trace != "5" || all[historySize-1].Trace != fmt.Sprint(historySize+4) {
		t.Errorf("%d entries, first %s", len(all), all[0].Trace)
	}
	if len(last) != 3 || last[0].Trace != fmt.Sprint(historySize+2) {
		t.Errorf("last three: %+v", last)
	}
}

// TestNothingSecretIsShown runs a story and looks through everything the bank says about it.
func TestNothingSecretIsShown(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b := newBank(t, func(c *Config) {
		c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c := signedOn(t, b)
	track := card1 + "=30121010000012345"
	p := purchase(1).withPIN(t, "123456").with(35, track)
	c.exchange("0200", p).want(t, "0210", "00")
	c.exchange("0200", p.with(11, "000002", 35, card2+"=3012")).want(t, "0210", "30")
	c.exchange("0200", purchase(3).withPIN(t, "777777")).want(t, "0210", "55")
	c.exchange("0200", purchase(4).with(36, "x"+card1)).want(t, "0210", "30")
	c.exchange("0400", reversal(p)).want(t, "0410", "00")
	stop(t, b) // The log is complete, and nobody writes to it any longer.

	cfg := Config{Addr: "127.0.0.1:0", ZPK: unhex(t, testZPK), ZAK: unhex(t, testZAK), Accounts: DefaultAccounts()}
	text := strings.ToUpper(log.String() + fmt.Sprintf("%+v %+v %v %#v %+v %v %#v", b.History(0), b.Book(), cfg, cfg, cfg, cfg.Accounts, cfg.Accounts))
	for name, secret := range map[string]string{
		"PAN": card1, "PAN 2": card2, "track": "3012101", "PIN block": p[52], "ZPK": testZPK,
		"ZAK": testZAK,
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is shown", name)
		}
	}
	if !strings.Contains(text, "622202*********0018") {
		t.Error("nothing was looked through")
	}
	if maskPAN("123456789012") != "************" {
		t.Error("a short PAN is not masked whole")
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	b := newBank(t, func(c *Config) {
		c.Now = func() time.Time { return time.Date(2026, 3, 9, 23, 30, 0, 0, time.UTC).In(time.FixedZone("", 8*3600)) }
	})
	if got := signedOn(t, b).exchange("0200", purchase(1)); got.fields[15] != "0310" {
		t.Errorf("settlement date %s", got.fields[15])
	}
}
