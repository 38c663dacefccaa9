package hsmclient_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/wire"
	"github.com/keyward/keyward/keys"
)

// fakeDriver speaks with fakeDevice over real sockets: what the simulator's driver cannot do, storing keys above all. NC is the
// diagnosis, RD a random number, SK stores a key.
type fakeDriver struct{}

var (
	_ driver.Opener     = fakeDriver{}
	_ driver.Randomizer = fakeDriver{}
	_ driver.KeyStorer  = fakeDriver{}
)

func (fakeDriver) Name() string { return "fake" }

func (fakeDriver) Open(ctx context.Context, to driver.Target) (driver.Channel, error) {
	return wire.Open(ctx, wire.Config{HeaderLength: 4, Echo: true, Trailer: true, Probe: "NC"}, to)
}

func (fakeDriver) Diagnose(ctx context.Context, on driver.Conversation) (command.Diagnosis, error) {
	_, err := fakeAsk(ctx, on, "NC", "")
	return command.Diagnosis{LMKCheck: "0000000000000001", Firmware: "fake"}, err
}

func (fakeDriver) Random(ctx context.Context, on driver.Conversation, n int) ([]byte, error) {
	return fakeAsk(ctx, on, "RD", fmt.Sprint(n))
}

func (fakeDriver) StoreKey(ctx context.Context, on driver.Conversation, req command.NewKey) (keys.Wrapped, error) {
	answer, err := fakeAsk(ctx, on, "SK", req.Label)
	return keys.Wrapped{Cryptogram: string(answer), Domain: domain}, err
}

func (fakeDriver) ResultOf(answer []byte) string { return string(answer[2:4]) }

// fakeAsk sends one command. The answer repeats what was asked.
func fakeAsk(ctx context.Context, on driver.Conversation, code, text string) ([]byte, error) {
	answer, err := on.Exchange(ctx, []byte(code+text))
	if err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(string(answer), code[:1]+string(code[1]+1))
	if !ok || len(rest) < 2 {
		return nil, &command.Error{Class: command.MemberFault, Command: code, Err: driver.ErrMalformed}
	}
	switch c := rest[:2]; c {
	case "00":
	case "41":
		return nil, &command.Error{Class: command.MemberFault, Command: code, Code: c}
	case "68":
		return nil, &command.Error{Class: command.NoLicence, Command: code, Code: c}
	default:
		return nil, &command.Error{Class: command.CallerFault, Command: code, Code: c}
	}
	if rest[2:] != text {
		return nil, &command.Error{Class: command.MemberFault, Command: code, Err: fmt.Errorf("%w: the answer of another request", driver.ErrMalformed)}
	}
	return []byte(rest[2:]), nil
}

// fakeDevice answers as its test says and counts what it is asked.
type fakeDevice struct {
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	asked map[string]int // by command and text
	conns map[net.Conn]bool
	total int // connections
	// say gives the code of an answer; "" sends none, "close" closes the connection with a reset.
	say func(code, text string, connection int) string
}

func newFakeDevice(t testing.TB) *fakeDevice {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDevice{listener: l, asked: map[string]int{}, conns: map[net.Conn]bool{}}
	d.running.Go(d.accept)
	t.Cleanup(func() {
		_ = l.Close()
		d.reset()
		d.running.Wait()
	})
	return d
}

func (d *fakeDevice) accept() {
	for {
		nc, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns[nc] = true
		d.total++
		n := d.total
		d.mu.Unlock()
		d.running.Go(func() {
			d.serve(nc, n)
			d.mu.Lock()
			delete(d.conns, nc)
			d.mu.Unlock()
			_ = nc.Close()
		})
	}
}

// answer replaces how the device answers.
func (d *fakeDevice) answer(say func(code, text string, connection int) string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.say = say
}

// reset kills all connections with a TCP reset.
func (d *fakeDevice) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for nc := range d.conns {
		_ = nc.(*net.TCPConn).SetLinger(0)
		_ = nc.Close()
	}
}

// count is how often it was asked for this.
func (d *fakeDevice) count(request string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[request]
}

// counts gives all that begins so.
func (d *fakeDevice) counts(code string) map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := map[string]int{}
	for request, n := range d.asked {
		if strings.HasPrefix(request, code) {
			found[request] = n
		}
	}
	return found
}

func (d *fakeDevice) serve(nc net.Conn, n int) {
	in := bufio.NewReader(nc)
	for {
		var length [2]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(in, frame); err != nil {
			return
		}
		body, trailer, _ := strings.Cut(string(frame[4:]), "\x19")
		code, text := body[:2], body[2:]
		d.mu.Lock()
		d.asked[body]++
		result := "00"
		if d.say != nil {
			result = d.say(code, text, n)
		}
		d.mu.Unlock()
		switch result {
		case "":
			continue
		case "close":
			_ = nc.(*net.TCPConn).SetLinger(0)
			return
		case "00":
			result += text
		}
		answer := string(frame[:4]) + code[:1] + string(code[1]+1) + result + "\x19" + trailer
		out := binary.BigEndian.AppendUint16(nil, uint16(len(answer)))
		if _, err := nc.Write(append(out, answer...)); err != nil {
			return
		}
	}
}

// fakeSpec names a fake device in a cluster's configuration.
func fakeSpec(name string, d *fakeDevice) member.Spec {
	return member.Spec{Name: name, Driver: "fake", Addr: d.listener.Addr().String(), Channels: 2}
}

// fakePair starts a cluster of two fake devices, both working.
func fakePair(t testing.TB, cfg hsmclient.Config) (c *hsmclient.Cluster, a, b *fakeDevice) {
	t.Helper()
	a, b = newFakeDevice(t), newFakeDevice(t)
	return startFakes(t, cfg, fakeSpec("a", a), fakeSpec("b", b)), a, b
}

// startFakes starts a cluster and waits until every member is in its role.
func startFakes(t testing.TB, cfg hsmclient.Config, specs ...member.Spec) *hsmclient.Cluster {
	t.Helper()
	cfg.Members = specs
	cfg.Drivers = map[string]driver.Maker{"fake": func(map[string]string) (driver.Driver, error) { return fakeDriver{}, nil }}
	c := start(t, cfg)
	want := map[string]member.State{}
	for _, s := range specs {
		want[s.Name] = member.Working
		if s.Role != "" {
			want[s.Name] = s.Role
		}
	}
	waitStates(t, c, want)
	eventually(t, "all channels are open", func() bool {
		for _, s := range c.Members() {
			if s.Load.ChannelsOpen != s.Spec.Channels {
				return false
			}
		}
		return true
	})
	return c
}

func storeKey(c *hsmclient.Cluster, label string) error {
	_, err := c.StoreKey(context.Background(), command.NewKey{Label: label})
	return err
}

// act is an operator in tests.
var act = member.Act{By: "test", Reason: "a test"}
