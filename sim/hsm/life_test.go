package hsm

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// TestConcurrent has many connections with many commands in flight while the faults change.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	const clear = "0123456789ABCDEFFEDCBA9876543210"
	tpk, zpk := sealed(t, d, typeTPK, "U", clear), sealed(t, d, typeZPK, "U", "FEDCBA98765432100123456789ABCDEF")
	sm := sealed(t, d, typeTAK, "R", clear)
	block, _ := sealPIN(newKey(algDES, unhex(t, clear)), "01", []byte("1234"), account{twelve: []byte("550000025321")})
	bodies := []string{
		"CA" + tpk + zpk + "12" + upperHex(block) + "0101550000025321", "M600111003" + sm + "0005hello", "HC" + sealed(t, d, typeTMK, "U", clear) + ";XU0", echo("x"),
	}
	want := make([]string, len(bodies))
	for i, body := range bodies {
		want[i] = dial(t, d, "all").must(body)
	}
	var clients sync.WaitGroup
	for range 8 {
		c := dial(t, d, "all")
		clients.Go(func() {
			const n = 100
			go func() { // Ends when all is written, which the reads below wait for.
				for i := range n {
					c.conn.Write(frame(fmt.Sprintf("%04d", i), bodies[i%len(bodies)]))
				}
			}()
			seen := map[string]bool{}
			for range n {
				h, b, err := c.receive()
				var i int
				if _, serr := fmt.Sscanf(h, "%04d", &i); err != nil || serr != nil || seen[h] {
					t.Errorf("answer %q %q: %v", h, b, err)
					return
				}
				seen[h] = true
				if i%len(bodies) != 2 && b[4:] != want[i%len(bodies)] { // HC makes a new key each time.
					t.Errorf("command %d: another answer than alone", i%len(bodies))
				}
			}
		})
	}
	for i := range 20 {
		setFaults(t, d, Faults{Shuffle: i%2 == 0, LatencyMS: i % 3})
		d.History(10)
		d.Counters()
	}
	clients.Wait()
}

func TestLife(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	defer cancel()
	ports := []Port{{Name: "a", Addr: "127.0.0.1:0"}}
	for name, cfg := range map[string]Config{
		"no port": {}, "no name": {Ports: []Port{{Addr: "127.0.0.1:0"}}}, "name twice": {Ports: append(ports, ports...)},
		"bad entry": {Ports: []Port{{Name: "a", Allow: []string{"ZZ"}}}}, "bad firmware": {Ports: ports, Firmware: "1"},
		"bad faults": {Ports: ports, Faults: Faults{DropEvery: -1}}, "history": {Ports: ports, HistorySize: maxHistory + 1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	d := startDevice(t, Config{})
	if d.Start(ctx) == nil {
		t.Error("started twice")
	}
	if d.Addr("other") != nil {
		t.Error("an unknown port has an address")
	}
	taken, err := New(Config{Ports: []Port{{Name: "a", Addr: "127.0.0.1:0"}, {Name: "b", Addr: d.Addr("all").String()}}})
	if err != nil {
		t.Fatal(err)
	}
	if taken.Start(ctx) == nil {
		t.Error("started on a port in use")
	}
	for range 2 {
		if err := taken.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	if taken.Start(ctx) == nil {
		t.Error("started after stop")
	}
}
