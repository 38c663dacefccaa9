package link_test

import (
	"context"
	"encoding/binary"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/keyward/keyward/internal/link"
)

// maxAllocs bounds one exchange, both ends together: call, its channel, answer and handler closure are 4; the race detector makes
// sync.Pool drop some buffers on purpose, hence the room above.
const maxAllocs = 8

func benchPair(b testing.TB) *link.Client[[4]byte] {
	s := startServer(b, link.ServerConfig{Handler: echo, MaxInFlightPerConn: 256})
	return connected(b, newClient(b, link.ClientConfig[[4]byte]{Addr: s.Addr().String(), MaxInFlight: 256}))
}

// BenchmarkExchange is one request after the other: a round trip over loopback, both ends in this process.
func BenchmarkExchange(b *testing.B) {
	c := benchPair(b)
	frame := request(0, string(make([]byte, 250)))
	n := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		binary.BigEndian.PutUint32(frame, n)
		if _, err := c.Exchange(context.Background(), [4]byte(frame[:4]), frame); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExchangePipelined is 64 callers on one connection.
func BenchmarkExchangePipelined(b *testing.B) {
	c := benchPair(b)
	var n atomic.Uint32
	b.ReportAllocs()
	b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		frame := request(0, string(make([]byte, 250)))
		for pb.Next() {
			binary.BigEndian.PutUint32(frame, n.Add(1))
			if _, err := c.Exchange(context.Background(), [4]byte(frame[:4]), frame); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func TestAllocationsPerExchange(t *testing.T) {
	c := benchPair(t) // not parallel: AllocsPerRun counts the whole process
	frame := request(0, string(make([]byte, 250)))
	n := uint32(0)
	got := testing.AllocsPerRun(500, func() {
		n++
		binary.BigEndian.PutUint32(frame, n)
		if _, err := c.Exchange(context.Background(), [4]byte(frame[:4]), frame); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%.0f allocations per exchange, both ends together", got)
	if got > maxAllocs {
		t.Fatalf("%.0f allocations per exchange, want at most %d", got, maxAllocs)
	}
}

// TestMemoryPerIdleConnection holds the promise that a server can keep very many terminals connected.
func TestMemoryPerIdleConnection(t *testing.T) {
	const conns, limit = 500, 10 << 10 // bytes; not parallel: it measures the whole process
	s := startServer(t, link.ServerConfig{Handler: echo})
	open := make([]net.Conn, 0, conns)
	before := inUse()
	for range conns {
		c := dial(t, s)
		open = append(open, c)
		writeFrame(t, c, []byte("one exchange, then idle"))
		readFrame(t, c)
	}
	per := (inUse() - before) / conns
	t.Logf("%d bytes per idle connection, the test's own end included", per)
	if per > limit {
		t.Fatalf("%d bytes per idle connection, want at most %d", per, limit)
	}
	runtime.KeepAlive(open)
}

// inUse is heap and stacks after a collection.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // the second one empties what sync.Pool kept from the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
