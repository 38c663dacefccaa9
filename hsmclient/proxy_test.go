package hsmclient_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// proxy stands between client and device and damages the stream in ways that the simulator does not.
type proxy struct {
	listener net.Listener
	target   string
	damage   atomic.Pointer[func(frame []byte) (out []byte, cut bool)] // of an answer with its length; nil: none
	accepted atomic.Int32
	running  sync.WaitGroup
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close() // ends accept; the connections end with the client's and the device's
		p.running.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		device, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close() // the client sees a device that is down
			continue
		}
		p.running.Go(func() {
			_, _ = io.Copy(device, client) // ends when either side closes
			_ = device.Close()
		})
		p.running.Go(func() {
			p.answers(client, device)
			_ = client.Close()
			_ = device.Close()
		})
	}
}

func (p *proxy) answers(client, device net.Conn) {
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(device, head); err != nil {
			return
		}
		frame := append(head, make([]byte, binary.BigEndian.Uint16(head))...)
		if _, err := io.ReadFull(device, frame[2:]); err != nil {
			return
		}
		cut := false
		if damage := p.damage.Load(); damage != nil {
			frame, cut = (*damage)(frame)
		}
		if _, err := client.Write(frame); err != nil || cut {
			return
		}
	}
}

// A duplicate, a frame cut short, a frame of no length and an answer to nothing close the channel. The command that met it goes out
// again on another channel of the same member, and gets the right answer.
func TestDamagedStream(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) ([]byte, bool){
		"duplicate":      func(f []byte) ([]byte, bool) { return append(append([]byte(nil), f...), f...), false },
		"cut frame":      func(f []byte) ([]byte, bool) { return f[:len(f)-3], true },
		"no length":      func([]byte) ([]byte, bool) { return []byte{0, 0}, false },
		"shorter":        func([]byte) ([]byte, bool) { return []byte{0, 3, 'a', 'b', 'c'}, false },
		"other response": func(f []byte) ([]byte, bool) { f[7] ^= 1; return f, false },
		"trailing bytes": func(f []byte) ([]byte, bool) {
			f = append(f, 'x')
			binary.BigEndian.PutUint16(f, uint16(len(f)-2))
			return f, false
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := device(t, hsm.Config{})
			p := newProxy(t, d.Addr("all").String())
			reg := prometheus.NewRegistry()
			s := spec("a", d)
			s.Addr, s.Channels = p.listener.Addr().String(), 2
			client := start(t, hsmclient.Config{Members: []member.Spec{s}, Registerer: reg})
			if err := randoms(client); err != nil {
				t.Fatal(err)
			}
			eventually(t, "both channels are open", func() bool { s, err := client.Member("a"); return err == nil && s.Load.ChannelsOpen == 2 })
			first := p.accepted.Load()
			var once atomic.Bool
			spoil := func(f []byte) ([]byte, bool) {
				if once.Swap(true) {
					return f, false
				}
				return damage(f)
			}
			p.damage.Store(&spoil)
			if err := randoms(client); err != nil {
				t.Errorf("the damaged command: %v", err)
			}
			eventually(t, "a new channel is made", func() bool { return p.accepted.Load() > first })
			eventually(t, "commands work on it", func() bool { return randoms(client) == nil })
			eventually(t, "the loss is counted", func() bool { return value(t, reg, "keyward_hsm_channel_resets_total") == 1 })
		})
	}
}
