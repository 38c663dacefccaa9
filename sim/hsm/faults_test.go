package hsm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// echo is a B2 with a text of less than 256 characters.
func echo(text string) string { return fmt.Sprintf("B2%04X%s", len(text), text) }

func setFaults(t *testing.T, d *Device, f Faults) {
	t.Helper()
	if err := d.SetFaults(f); err != nil {
		t.Fatal(err)
	}
}

// eventually polls a condition for which the device has no signal, because it follows an answer or takes its place.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testWait); !ok(); {
		if time.Now().After(end) {
			t.Fatal("the condition did not come true in time")
		}
		time.Sleep(time.Millisecond) // Polls a counter, see above.
	}
}

// wantClosed expects the device to end the connection.
func wantClosed(t *testing.T, c *client) {
	t.Helper()
	if h, b, err := c.receive(); err == nil {
		t.Errorf("answer %q %q on a connection that should be closed", h, b)
	} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Error("the connection stays open")
	}
}

func TestPipelineInOneSegment(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	var all []byte
	for i := range 300 {
		all = append(all, frame(fmt.Sprintf("%04d", i), echo(fmt.Sprint(i)))...)
	}
	if _, err := c.conn.Write(all); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		h, b, err := c.receive()
		if err != nil || h != fmt.Sprintf("%04d", i) || b != "B300"+fmt.Sprint(i) {
			t.Fatalf("answer %d: %q %q %v", i, h, b, err)
		}
	}
	// Half a frame in front of a pause must not keep the answer before it.
	second := frame("BBBB", echo("2"))
	if _, err := c.conn.Write(append(frame("AAAA", echo("1")), second[:5]...)); err != nil {
		t.Fatal(err)
	}
	h, _, err := c.receive()
	if err != nil || h != "AAAA" {
		t.Fatalf("first answer: %q %v", h, err)
	}
	if _, err := c.conn.Write(second[5:]); err != nil {
		t.Fatal(err)
	}
	if h, _, err = c.receive(); err != nil || h != "BBBB" {
		t.Fatalf("second answer: %q %v", h, err)
	}
}

func TestTrailer(t *testing.T) {
	t.Parallel()
	c := dial(t, startDevice(t, Config{}), "all")
	same(t, "B2", c.must(echo("a\x19b")+"\x19tail"), "a\x19b\x19tail")
	same(t, "empty trailer", c.must("NO01\x19"), "0\x19")
	code, rest := c.ask("ZZ\x19tail")
	same(t, "with an error", code+rest, "68\x19tail")
}

func TestShuffle(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Faults: Faults{Shuffle: true}})
	c := dial(t, d, "all")
	const n = 200
	for i := range n {
		c.send(fmt.Sprintf("%04d", i), echo(fmt.Sprint(i)))
	}
	seen, outOfOrder := map[string]bool{}, 0
	for i := range n {
		h, b, err := c.receive()
		if err != nil || seen[h] || fmt.Sprintf("B300%s", strings.TrimLeft(h[:3], "0")+h[3:]) != b {
			t.Fatalf("answer %q %q %v", h, b, err)
		}
		seen[h] = true
		if h != fmt.Sprintf("%04d", i) {
			outOfOrder++
		}
	}
	if outOfOrder == 0 {
		t.Error("200 shuffled answers came in order")
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	defer cancel()
	setFaults(t, d, Faults{Hold: []string{"NC"}})
	c.send("HELD", "NC")
	if err := d.WaitHeld(ctx, "NC"); err != nil {
		t.Fatal(err)
	}
	c.must(echo("overtakes")) // Another command is answered while NC is withheld.
	if n := d.Counters().Held; n != 1 {
		t.Errorf("held %d, want 1", n)
	}
	if n := d.Release("NC"); n != 1 {
		t.Errorf("released %d, want 1", n)
	}
	if h, _, err := c.receive(); err != nil || h != "HELD" {
		t.Fatalf("released answer: %q %v", h, err)
	}
	// Lifting the hold sends what is withheld; so does nothing else.
	c.send("HEL2", "NC")
	if err := d.WaitHeld(ctx, "NC"); err != nil {
		t.Fatal(err)
	}
	setFaults(t, d, Faults{})
	if h, _, err := c.receive(); err != nil || h != "HEL2" {
		t.Fatalf("after lifting: %q %v", h, err)
	}
	c.must("NC")
	ended, stop := context.WithCancel(ctx)
	stop()
	if err := d.WaitHeld(ended, "NC"); !errors.Is(err, context.Canceled) {
		t.Errorf("wait without a held command: %v", err)
	}
	// Stop with a withheld answer must not hang: the clean-up of the device proves it.
	setFaults(t, d, Faults{Hold: []string{"NC"}})
	c.send("HEL3", "NC")
	if err := d.WaitHeld(ctx, "NC"); err != nil {
		t.Fatal(err)
	}
}

func TestRefuseAndMend(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	c.must("NC")
	addr := d.Addr("all").String()
	setFaults(t, d, Faults{Refuse: true})
	wantClosed(t, c)
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Error("a refusing device accepts")
	}
	setFaults(t, d, Faults{})
	same(t, "address", d.Addr("all").String(), addr)
	dial(t, d, "all").must("NC")
}

func TestStartRefusing(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Faults: Faults{Refuse: true}})
	if nc, err := net.Dial("tcp", d.Addr("all").String()); err == nil {
		nc.Close()
		t.Error("a refusing device accepts")
	}
	setFaults(t, d, Faults{})
	dial(t, d, "all").must("NC")
}

func TestBlackHole(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	setFaults(t, d, Faults{BlackHole: true})
	c.send("LOST", "NC")
	eventually(t, func() bool { return d.Counters().Dropped == 1 })
	setFaults(t, d, Faults{})
	c.must("NC") // The next answer on the connection is that of the next command.
}

func TestAcceptThenClose(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	old := dial(t, d, "all")
	old.must("NC")
	setFaults(t, d, Faults{AcceptThenClose: true})
	wantClosed(t, dial(t, d, "all"))
	old.must("NC")
	setFaults(t, d, Faults{})
	dial(t, d, "all").must("NC")
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{MaxConnections: 2})
	first, second := dial(t, d, "all"), dial(t, d, "all")
	first.must("NC")
	second.must("NC")
	wantClosed(t, dial(t, d, "all"))
	if n := d.Counters().Refused; n != 1 {
		t.Errorf("refused %d, want 1", n)
	}
	setFaults(t, d, Faults{MaxConnections: 3})
	dial(t, d, "all").must("NC")
	wantClosed(t, dial(t, d, "all"))
}

func TestSpoiledAnswers(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	setFaults(t, d, Faults{DropEvery: 2})
	for i := range 6 {
		c.send(fmt.Sprintf("D%03d", i), "NC")
	}
	for _, want := range []string{"D000", "D002", "D004"} {
		if h, _, err := c.receive(); err != nil || h != want {
			t.Fatalf("with every second dropped: %q %v, want %s", h, err, want)
		}
	}
	setFaults(t, d, Faults{WrongHeaderEvery: 1})
	c.send("WXYZ", "NC")
	if h, b, err := c.receive(); err != nil || h == "WXYZ" || h[1:] != "XYZ" || b[:4] != "ND00" {
		t.Errorf("wrong header: %q %q %v", h, b, err)
	}
	setFaults(t, d, Faults{GarbleEvery: 1})
	c.send("GARB", "NC")
	if h, b, err := c.receive(); err != nil || h != "GARB" || strings.HasPrefix(b, "ND") {
		t.Errorf("garbled: %q %q %v", h, b, err)
	}
	setFaults(t, d, Faults{ErrorCodes: map[string]string{"NC": "41"}})
	code, rest := c.ask("NC")
	same(t, "error code", code+rest, "41")
	c.must("NO01")
}

func TestChangedLMK(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	zpk := sealed(t, d, typeZPK, "U", "0123456789ABCDEFFEDCBA9876543210")
	kcv := c.must("BU011" + zpk)
	setFaults(t, d, Faults{LMKSeed: "somebody else's"})
	if got := c.must("NC"); strings.HasPrefix(got, testLMKCheck) {
		t.Error("NC still answers the old check value")
	}
	c.wantCode("BU011"+zpk, "10")
	setFaults(t, d, Faults{})
	same(t, "back", c.must("BU011"+zpk), kcv)
}

func TestLatencyAndPace(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	setFaults(t, d, Faults{LatencyMS: 30, JitterMS: 10})
	began := time.Now()
	c.must("NC")
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("answered after %v, want at least 30 ms", took)
	}
	setFaults(t, d, Faults{CommandsPerSecond: 100})
	began = time.Now()
	for i := range 11 {
		c.send(fmt.Sprintf("%04d", i), "NC")
	}
	for range 11 {
		if _, _, err := c.receive(); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("11 commands at 100 a second took %v, want at least 100 ms", took)
	}
}

func TestFaultsRefused(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	for _, f := range []Faults{
		{LatencyMS: -1}, {DropEvery: -1}, {LatencyMS: maxLatencyMS + 1}, {Hold: []string{"??"}}, {ErrorCodes: map[string]string{"ZZ": "41"}},
		{ErrorCodes: map[string]string{"NC": "4"}},
	} {
		if d.SetFaults(f) == nil {
			t.Errorf("%+v accepted", f)
		}
	}
	if f := d.Faults(); f.LatencyMS != 0 || f.Hold != nil {
		t.Errorf("a refused setting stays: %+v", f)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{HistorySize: 3})
	c := dial(t, d, "all")
	const secret = "5566778899AABBCC"
	for _, body := range []string{"NC", "NO01", echo(secret), "CA" + secret, "ZZ" + secret} {
		c.ask(body)
	}
	c.must("NC")
	var list []Entry
	eventually(t, func() bool { list = d.History(10); return len(list) == 3 && list[0].Command == "NC" })
	if len(list) != 3 || list[1].Command != "??" || list[1].ErrorCode != "68" || list[2].Command != "CA" || list[2].ErrorCode != "15" || list[2].Port != "all" ||
		list[2].RequestBytes != 22 || list[2].AnswerBytes != 8 || list[2].Connection != 1 {
		t.Errorf("history: %+v", list)
	}
	text, err := json.Marshal(struct {
		E []Entry
		C Counters
		F Faults
	}{list, d.Counters(), d.Faults()})
	if err != nil || strings.Contains(string(text), secret) || !strings.Contains(string(text), `"request_bytes":22`) || !strings.Contains(string(text), `"latency_ms":0`) {
		t.Errorf("JSON: %s %v", text, err)
	}
	if n := len(d.History(2)); n != 2 {
		t.Errorf("limit 2 gives %d", n)
	}
	if n := len(d.History(-1)); n != 0 {
		t.Errorf("limit -1 gives %d", n)
	}
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	for _, raw := range []string{"\x00\x00", "\x00\x05HEADN", "\x00\x04HEAD"} {
		c := dial(t, d, "all")
		if _, err := io.WriteString(c.conn, raw); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, c)
	}
	if n := d.Counters().BadFrames; n != 3 {
		t.Errorf("bad frames %d, want 3", n)
	}
	c := dial(t, d, "all")
	c.wantCode("B2"+strings.Repeat("x", maxMessage), "15")
	c.wantCode("B2"+strings.Repeat("x", 0xFFFF-6), "15")
	same(t, "longest echo", c.must("B27FF6" + strings.Repeat("e", 0x7FF6))[:2], "ee")
}
