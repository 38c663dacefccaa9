package link_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/link"
)

// TestKeepAliveIsSet asks the kernel what the accepted socket does when its peer is silent.
func TestKeepAliveIsSet(t *testing.T) {
	t.Parallel()
	l := watch(t, false)
	s := startServer(t, link.ServerConfig{Listener: l, Handler: echo, KeepAlive: 40 * time.Second})
	if !served(t, dial(t, s)) {
		t.Fatal("not served")
	}
	raw, err := (<-l.accepted).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct {
		name                string
		level, option, want int
	}{
		{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 40},
		{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 10},
		{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 4},
	} {
		if err := raw.Control(func(fd uintptr) {
			if got, err := syscall.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
				t.Errorf("%s is %d (%v), want %d", o.name, got, err, o.want)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}
