package hsmclient_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

// benchMAC is one UnionPay MAC with a single key against a simulator in the same process, whose work is part of the time.
func benchMAC(b *testing.B) (*hsmclient.Cluster, command.MACInput) {
	b.Helper()
	d := device(b, hsm.Config{})
	c := start(b, hsmclient.Config{Members: []member.Spec{spec("a", d)}})
	key := wrapOn(d)(b, keys.MACKey, keys.DES, secret.New([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}))
	return c, command.MACInput{Key: key, Algorithm: command.MACAlg1, Data: []byte("8669012722F217C6")}
}

// manyCallers measures 32 callers for each processor.
func manyCallers(b *testing.B, c *hsmclient.Cluster, in command.MACInput) {
	b.Helper()
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.MAC(b.Context(), in); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

// BenchmarkMACPipelined has many callers on one channel.
func BenchmarkMACPipelined(b *testing.B) {
	c, in := benchMAC(b)
	manyCallers(b, c, in)
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

// canned answers every frame with its header and a fixed MAC or diagnosis, without allocating: what remains is the client's own.
func canned(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = nc.Close() }() // the other side is gone already
				in, out := bufio.NewReader(nc), bufio.NewWriter(nc)
				frame := make([]byte, 4096)
				for {
					if _, err := io.ReadFull(in, frame[:2]); err != nil {
						return
					}
					n := int(binary.BigEndian.Uint16(frame))
					if _, err := io.ReadFull(in, frame[2:2+n]); err != nil {
						return
					}
					answer := "M7000123456789ABCDEF"
					if frame[6] == 'N' {
						answer = "ND0026860474449124220001-0900"
					}
					n = 6 + copy(frame[6:], answer)
					binary.BigEndian.PutUint16(frame, uint16(n-2))
					if _, err := out.Write(frame[:n]); err != nil {
						return
					}
					if in.Buffered() == 0 && out.Flush() != nil {
						return
					}
				}
			})
		}
	})
	b.Cleanup(func() {
		_ = l.Close() // ends the loop above; the connections end with the client's
		running.Wait()
	})
	return l.Addr().String()
}

// BenchmarkClientAlone measures the client and the link without a device's work: the goal is at most 15 allocations.
func BenchmarkClientAlone(b *testing.B) {
	c := start(b, hsmclient.Config{Members: []member.Spec{{Name: "a", Addr: canned(b)}}})
	key := keys.Wrapped{Usage: keys.MACKey, Algorithm: keys.DES, Domain: domain, Cryptogram: "0123456789ABCDEF"}
	in := command.MACInput{Key: key, Algorithm: command.MACAlg1, Data: []byte("8669012722F217C6")}
	manyCallers(b, c, in)
}
