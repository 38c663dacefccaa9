package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
)

// FuzzRead gives a channel hostile bytes while two requests are under way: it takes an answer whole and for its own request, or ends;
// nobody hangs, and nothing panics.
func FuzzRead(f *testing.F) {
	frame := func(text string) []byte { return append([]byte{byte(len(text) >> 8), byte(len(text))}, text...) }
	first, second := frame("0001B300one\x1900000001"), frame("0002B300two\x1900000002")
	for _, seed := range [][]byte{
		nil, {0}, {0, 0}, {0xFF, 0xFF}, first, append(bytes.Clone(second), first...), append(bytes.Clone(first), first...), first[:9],
		frame("0001B300two\x1900000002"), frame("0003B300\x1900000003"), frame("0001"), frame("0001\x1900000001"), frame("zzzz"), frame("000"), frame("0001B300one"),
	} {
		for mode := range byte(4) {
			f.Add(mode, seed)
		}
	}
	f.Fuzz(func(t *testing.T, mode byte, answers []byte) {
		cfg := Config{HeaderLength: 4, Echo: mode&1 == 0, BareLength: mode&2 != 0, Probe: "NC"}
		cfg.Trailer = cfg.Echo
		ours, theirs := net.Pipe()
		socket := &countingConn{Conn: ours}
		c := newChannel(cfg, way{labelled: cfg.Echo, single: !cfg.Echo}, driver.Target{Name: "fuzz", Depth: 4, FrameTimeout: patience}, socket, socket)
		got := make(chan struct {
			answer []byte
			err    error
		}, 2)
		requests := 2
		if !cfg.Echo {
			requests = 1
		}
		for range requests {
			go func() {
				answer, err := c.Exchange(t.Context(), []byte("B2"))
				got <- struct {
					answer []byte
					err    error
				}{answer, err}
			}()
		}
		size := len(c.appendFrame(nil, 1, []byte("B2")))
		if _, err := io.ReadFull(theirs, make([]byte, requests*size)); err != nil {
			t.Fatal(err)
		}
		_ = theirs.SetWriteDeadline(time.Now().Add(patience))
		_, _ = theirs.Write(answers) // fails when the channel has ended
		_ = theirs.Close()
		for range requests {
			select {
			case r := <-got:
				if r.err == nil && (len(r.answer) > len(answers) || !bytes.Contains(answers, r.answer)) {
					t.Errorf("an answer of %d bytes that was never sent", len(r.answer))
				}
				if r.err != nil && (!errors.Is(r.err, driver.ErrLost) || driver.NotSent(r.err)) {
					t.Errorf("failed with %v", r.err)
				}
			case <-time.After(patience):
				t.Fatal("a request hangs")
			}
		}
		ended(t, c)
	})
}
