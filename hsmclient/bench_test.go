package hsmclient_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

// benchChannels is the default number of channels.
const benchChannels = 6

// benchMAC is one UnionPay MAC with a single key against a simulator in the same process, whose work is part of the time.
func benchMAC(b *testing.B) (*hsmclient.Cluster, command.MACInput) {
	b.Helper()
	d := device(b, hsm.Config{})
	s := spec("a", d)
	s.Channels, s.Depth = benchChannels, 0
	c := start(b, hsmclient.Config{Members: []member.Spec{s}})
	key := wrapOn(d)(b, keys.MACKey, keys.DES, secret.New([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}))
	return c, command.MACInput{Key: key, Algorithm: command.MACAlg1, Data: []byte("8669012722F217C6")}
}

// manyCallers measures 32 callers for each processor.
func manyCallers(b *testing.B, c *hsmclient.Cluster, in command.MACInput) {
	b.Helper()
	inParallel(b, func() error {
		_, err := c.MAC(b.Context(), in)
		return err
	})
}

func inParallel(b *testing.B, do func() error) {
	b.Helper()
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := do(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

// BenchmarkMACPipelined has many callers on the channels of one member.
func BenchmarkMACPipelined(b *testing.B) {
	c, in := benchMAC(b)
	manyCallers(b, c, in)
}

// BenchmarkMACBare is BenchmarkMACPipelined with the simplest client that pipelines, on as many connections: what the cluster is
// measured against.
func BenchmarkMACBare(b *testing.B) {
	d := device(b, hsm.Config{})
	key := wrapOn(d)(b, keys.MACKey, keys.DES, secret.New([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}))
	request := []byte("M601110003" + key.Cryptogram + "00108669012722F217C6")
	connections := make([]*bareConnection, benchChannels)
	for i := range connections {
		connections[i] = newBareConnection(b, d.Addr("all").String())
	}
	var turn atomic.Uint32
	inParallel(b, func() error {
		answer, err := connections[turn.Add(1)%benchChannels].exchange(request)
		if err == nil && string(answer[:4]) != "M700" {
			err = fmt.Errorf("the device answered %s", answer[:4])
		}
		return err
	})
}

// BenchmarkMACBareOneCaller is BenchmarkMACOneCaller with the bare client.
func BenchmarkMACBareOneCaller(b *testing.B) {
	d := device(b, hsm.Config{})
	key := wrapOn(d)(b, keys.MACKey, keys.DES, secret.New([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}))
	request := []byte("M601110003" + key.Cryptogram + "00108669012722F217C6")
	c := newBareConnection(b, d.Addr("all").String())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.exchange(request); err != nil {
			b.Fatal(err)
		}
	}
}

// bareConnection is a counter as header, a map, one write for each request, one goroutine that reads. It looks after nothing.
type bareConnection struct {
	nc      net.Conn
	mu      sync.Mutex
	next    uint32
	pending map[uint32]chan []byte
}

func newBareConnection(b *testing.B, addr string) *bareConnection {
	b.Helper()
	nc, err := new(net.Dialer).DialContext(b.Context(), "tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	c := &bareConnection{nc: nc, pending: map[uint32]chan []byte{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r := bufio.NewReader(nc)
		var length [2]byte
		for {
			if _, err := io.ReadFull(r, length[:]); err != nil {
				return
			}
			answer := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(r, answer); err != nil {
				return
			}
			label := binary.BigEndian.Uint32(answer)
			c.mu.Lock()
			got := c.pending[label]
			delete(c.pending, label)
			c.mu.Unlock()
			got <- answer[4:]
		}
	}()
	b.Cleanup(func() { _ = nc.Close(); <-ended })
	return c
}

func (c *bareConnection) exchange(request []byte) ([]byte, error) {
	got := make(chan []byte, 1)
	c.mu.Lock()
	c.next++
	label := c.next & 0x7F7F7F7F
	c.pending[label] = got
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 6+len(request)), uint16(4+len(request)))
	frame = append(binary.BigEndian.AppendUint32(frame, label), request...)
	_, err := c.nc.Write(frame)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return <-got, nil
}

// BenchmarkMACOneCaller is the round trip of one caller.
func BenchmarkMACOneCaller(b *testing.B) {
	c, in := benchMAC(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.MAC(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}
