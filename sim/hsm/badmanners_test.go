package hsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSwappedHeaders: two answers leave with each other's header; their trailers tell.
func TestSwappedHeaders(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	defer cancel()
	setFaults(t, d, Faults{SwapHeaderEvery: 1, Hold: []string{"NC"}})
	c.send("AAAA", "NC\x19aaaa")
	if err := d.WaitHeld(ctx, "NC"); err != nil {
		t.Fatal(err)
	}
	c.send("BBBB", echo("b")+"\x19bbbb")
	if h, b, err := c.receive(); err != nil || h != "AAAA" || !strings.HasSuffix(b, "\x19bbbb") {
		t.Errorf("first answer: %q %q %v", h, b, err)
	}
	d.Release("NC")
	if h, b, err := c.receive(); err != nil || h != "BBBB" || !strings.HasSuffix(b, "\x19aaaa") {
		t.Errorf("second answer: %q %q %v", h, b, err)
	}
	// A request that is alone keeps its header.
	for range 3 {
		c.must(echo("alone"))
	}
	// Of many in flight every answer comes, under a header that was asked.
	setFaults(t, d, Faults{SwapHeaderEvery: 3, Shuffle: true})
	const n = 60
	for i := range n {
		c.send(fmt.Sprintf("%04d", i), echo(fmt.Sprintf("%04d", i)))
	}
	seen, swapped := map[string]bool{}, 0
	for range n {
		h, b, err := c.receive()
		if err != nil || seen[h] {
			t.Fatalf("answer %q %q %v", h, b, err)
		}
		seen[h] = true
		if b[4:] != h {
			swapped++
		}
	}
	if swapped == 0 || swapped == n {
		t.Errorf("%d of %d answers have another header", swapped, n)
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Faults: Faults{DuplicateEvery: 2}})
	c := dial(t, d, "all")
	for i := range 4 {
		c.send(fmt.Sprintf("D%03d", i), "NC")
	}
	for _, want := range []string{"D000", "D001", "D001", "D002", "D003", "D003"} {
		if h, b, err := c.receive(); err != nil || h != want || b[:4] != "ND00" {
			t.Fatalf("answer %q %q %v, want %s", h, b, err, want)
		}
	}
}

func TestCutFrame(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Faults: Faults{CutEvery: 2}})
	whole := len("HEADND00") + 25
	c := dial(t, d, "all")
	c.must("NC")
	c.send("HEAD", "NC")
	got, err := io.ReadAll(c.r)
	if err != nil || len(got) != 2+whole/2 || int(got[1]) != whole {
		t.Errorf("%d bytes before the close: %v", len(got), err)
	}
	setFaults(t, d, Faults{CutEvery: 2, CutThen: "stall"})
	c = dial(t, d, "all")
	c.must("NC")
	c.send("HEAD", "NC")
	if _, err := readFull(c, make([]byte, 2+whole/2)); err != nil {
		t.Fatal(err)
	}
	dropped := d.Counters().Dropped
	c.send("HEAD", "NC")
	eventually(t, func() bool { return d.Counters().Dropped == dropped+1 }) // It reads on and says no more.
	c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.r.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after a cut answer: %d bytes, %v", n, err)
	}
	dial(t, d, "all").must("NC") // Only that connection is spoiled.
}

func TestAnswerSome(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	for _, f := range []Faults{{AnswerOnly: []string{"NC"}}, {DropCommands: []string{"B2"}}} {
		setFaults(t, d, f)
		c.send("LOST", echo("x"))
		c.must("NC")
	}
	setFaults(t, d, Faults{AnswerPercent: 50})
	before := d.Counters()
	const n = 200
	for i := range n {
		c.send(fmt.Sprintf("%04d", i), "NC")
	}
	eventually(t, func() bool {
		now := d.Counters()
		return now.Answers-before.Answers+now.Dropped-before.Dropped == n
	})
	if answers := d.Counters().Answers - before.Answers; answers < n/5 || answers > n*4/5 {
		t.Errorf("%d of %d answered, want about half", answers, n)
	}
	// A command that was not answered was carried out all the same.
	setFaults(t, d, Faults{DropCommands: []string{"KR"}})
	c.send("LOST", "KR003UK000100")
	eventually(t, func() bool { return d.Counters().Stored == 1 })
}

func TestSlowAccept(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	old := dial(t, d, "all")
	old.must("NC")
	setFaults(t, d, Faults{SlowAcceptMS: 60})
	began := time.Now()
	late := dial(t, d, "all")
	if took := time.Since(began); took >= 60*time.Millisecond {
		t.Logf("the connection took %v", took) // The kernel makes it at once; a busy machine may not.
	}
	late.must("NC")
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("served after %v, want at least 60 ms", took)
	}
	setFaults(t, d, Faults{SlowAcceptMS: maxLatencyMS})
	dial(t, d, "all")
	old.must("NC") // Stop must not wait for the late one: the clean-up of the device proves it.
}

func TestCloseAfter(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Faults: Faults{CloseAfter: 3}})
	for range 2 {
		c := dial(t, d, "all")
		for range 3 {
			c.must("NC")
		}
		wantClosed(t, c)
	}
}

// TestReset: what the device closes, the client sees as a reset.
func TestReset(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	for name, f := range map[string]Faults{
		"refuse": {Refuse: true, Reset: true}, "close after": {CloseAfter: 1, Reset: true}, "cut": {CutEvery: 1, Reset: true},
	} {
		setFaults(t, d, Faults{})
		c := dial(t, d, "all")
		c.must("NC")
		setFaults(t, d, f)
		if !f.Refuse {
			c.send("HEAD", "NC")
		}
		if _, err := io.Copy(io.Discard, c.r); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want a reset", name, err)
		}
	}
	setFaults(t, d, Faults{AcceptThenClose: true, Reset: true})
	nc, err := net.Dial("tcp", d.Addr("all").String())
	if err == nil {
		defer nc.Close()
		_, err = io.Copy(io.Discard, nc)
	}
	if !errors.Is(err, syscall.ECONNRESET) { // It may come before the dial has returned.
		t.Errorf("accept then close: %v, want a reset", err)
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	c.must("NC")
	setFaults(t, d, Faults{Stall: true})
	requests := d.Counters().Requests
	for i := range 5 {
		c.send(fmt.Sprintf("%04d", i), echo("x"))
	}
	c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, _, err := c.receive(); err == nil {
		t.Error("a stalled device answers")
	}
	if n := d.Counters().Requests; n != requests {
		t.Errorf("%d requests read while stalled", n-requests)
	}
	c.conn.SetReadDeadline(time.Now().Add(testWait))
	setFaults(t, d, Faults{Stall: true, LatencyMS: 1}) // Still stalled.
	setFaults(t, d, Faults{})
	for i := range 5 {
		if h, _, err := c.receive(); err != nil || h != fmt.Sprintf("%04d", i) {
			t.Fatalf("after the stall: %q %v", h, err)
		}
	}
	setFaults(t, d, Faults{Stall: true})
	c.send("HEAD", "NC") // Stop must not hang: the clean-up of the device proves it.
}

// TestWrongResults: answers that parse and are wrong, for every kind of result.
func TestWrongResults(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	bodies := goodBodies(t, d)
	block := blockKey(t, d, "72T2B00S00", testClear)
	bodies["BU block"] = "BUFFF" + block + ";FFF;000%01"
	bodies["M2 binary"] = "M20000" + typeTDK + sealed(t, d, typeTDK, "U", testClear) + "000812345678"
	for _, name := range []string{"CA", "CC"} { // To a format without a random filler.
		bodies[name] = bodies[name][:len(bodies[name])-14] + "03550000025321"
	}
	right := map[string]string{}
	for name, body := range bodies {
		code, rest := c.ask(body)
		right[name] = code + rest
	}
	setFaults(t, d, Faults{WrongResultEvery: 1})
	for _, name := range []string{"BU", "BU block", "CA", "CC", "M2", "M2 binary", "M4", "M6", "M0", "S0", "S3", "SH", "KD", "FA"} {
		code, rest := c.ask(bodies[name])
		got, want := code+rest, right[name]
		differ := 0
		for i := 0; i < len(want) && len(got) == len(want); i++ {
			if got[i] != want[i] {
				differ++
			}
		}
		if len(got) != len(want) || differ != 1 || code != want[:2] {
			t.Errorf("%s: %d characters of %d differ", name, differ, len(want))
		}
	}
	for _, name := range []string{"NC", "B2", "NO", "KG"} {
		if code, rest := c.ask(bodies[name]); code+rest != right[name] {
			t.Errorf("%s is wrong too", name)
		}
	}
	// The verdict of a verification is turned, either way.
	key := typeTAK + sealed(t, d, typeTAK, "U", testClear)
	setFaults(t, d, Faults{})
	mac := c.must("M600111" + key + "0003abc")
	setFaults(t, d, Faults{WrongResultEvery: 1})
	c.wantCode("M800111"+key+"0003abc"+mac, "01")
	c.wantCode("M800111"+key+"0003abc"+"0000000000000000", "00")
	c.wantCode("M800111"+key+"0003abc", "15") // A refusal stays.
	setFaults(t, d, Faults{WrongResultEvery: 3})
	wrong := 0
	for range 9 {
		if code, rest := c.ask(bodies["BU"]); code+rest != right["BU"] {
			wrong++
		}
	}
	if wrong != 3 {
		t.Errorf("%d of 9 wrong, want 3", wrong)
	}
}

func TestMoreFaultsRefused(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	for _, f := range []Faults{
		{AnswerPercent: 100}, {CutThen: "wait"}, {SlowAcceptMS: maxLatencyMS + 1}, {AnswerOnly: []string{"ZZ"}}, {DropCommands: []string{""}},
		{SwapHeaderEvery: -1}, {WrongResultEvery: -1}, {CloseAfter: -1}, {DuplicateEvery: -1}, {CutEvery: -1},
	} {
		if d.SetFaults(f) == nil {
			t.Errorf("%+v accepted", f)
		}
	}
}
