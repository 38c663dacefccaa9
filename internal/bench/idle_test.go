package bench

import (
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

// echoHost answers every echo with a message of the given type, and notes where connections come from.
func echoHost(t *testing.T, mti byte) (addr string, sources func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			seen[c.RemoteAddr().(*net.TCPAddr).IP.String()] = true
			mu.Unlock()
			serving.Go(func() {
				defer func() { _ = c.Close() }()
				frame := make([]byte, len(echoFrame))
				if _, err := io.ReadFull(c, frame); err != nil {
					return
				}
				frame[2+12] = mti
				_, _ = c.Write(frame)
				_, _ = io.Copy(io.Discard, c) // until the terminal hangs up
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return len(seen) }
}

func TestIdle(t *testing.T) {
	addr, sources := echoHost(t, 0x30)
	conns, err := idle(t.Context(), addr, 50)
	if err != nil || len(conns) != 50 || sources() != idleAddresses {
		t.Fatalf("%d connections from %d addresses: %v", len(conns), sources(), err)
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

func TestIdleWrongAnswer(t *testing.T) {
	addr, _ := echoHost(t, 0x10)
	conns, err := idle(t.Context(), addr, 50)
	for _, c := range conns {
		_ = c.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "0830") {
		t.Fatalf("a wrong answer counts as an echo: %v", err)
	}
}

func TestResident(t *testing.T) {
	if n, err := resident(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := resident(-1); err == nil {
		t.Error("a process that does not exist has memory")
	}
	if n, err := idleCount(); err != nil || n < 1 || n > idleConnections {
		t.Errorf("%d terminals, %v", n, err)
	}
}
