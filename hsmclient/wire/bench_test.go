package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// bare is the simplest pipelined client: a counter as header, a map, one write for each request, one goroutine that reads.
type bare struct {
	nc      net.Conn
	mu      sync.Mutex
	next    uint32
	pending map[uint32]chan []byte
}

func newBare(tb testing.TB, addr string) *bare {
	nc, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	c := &bare{nc: nc, pending: map[uint32]chan []byte{}}
	tb.Cleanup(func() { _ = nc.Close() })
	go func() {
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
			key := binary.BigEndian.Uint32(answer)
			c.mu.Lock()
			got := c.pending[key]
			delete(c.pending, key)
			c.mu.Unlock()
			got <- answer[4:]
		}
	}()
	return c
}

func (c *bare) Exchange(ctx context.Context, request []byte) ([]byte, error) {
	got := make(chan []byte, 1)
	frame := make([]byte, 0, 6+len(request))
	c.mu.Lock()
	c.next++
	key := c.next
	c.pending[key] = got
	frame = binary.BigEndian.AppendUint16(frame, uint16(4+len(request)))
	frame = binary.BigEndian.AppendUint32(frame, key)
	_, err := c.nc.Write(append(frame, request...))
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case answer := <-got:
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// BenchmarkExchange compares a channel with the simplest pipelined client, on the same fake device.
func BenchmarkExchange(b *testing.B) {
	type exchanger interface {
		Exchange(ctx context.Context, request []byte) ([]byte, error)
	}
	request := []byte("CAU0123456789ABCDEFFEDCBA9876543210U0123456789ABCDEFFEDCBA9876543210126428EB94035AF53B0101500000253214")
	for _, callers := range []int{1, 4, 16} {
		for _, kind := range []string{"bare", "channel"} {
			b.Run(fmt.Sprintf("%s/%d", kind, callers), func(b *testing.B) {
				d := listen(b, nil, func(s *session) {
					w := bufio.NewWriter(s)
					for f := s.next(); f != nil; f = s.next() {
						_, _ = w.Write([]byte{byte(len(f) >> 8), byte(len(f))})
						_, _ = w.Write(f)
						if s.r.Buffered() < 2 {
							_ = w.Flush()
						}
					}
				})
				var c exchanger
				if kind == "bare" {
					c = newBare(b, d.addr)
				} else {
					cfg := normal
					cfg.Trailer = false
					c = dialTo(b, d, cfg, callers)
				}
				ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
				defer cancel()
				b.ReportAllocs()
				b.ResetTimer()
				var running sync.WaitGroup
				for i := range callers {
					running.Go(func() {
						for n := i; n < b.N; n += callers {
							if _, err := c.Exchange(ctx, request); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				running.Wait()
			})
		}
	}
}
