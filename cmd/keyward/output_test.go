package main

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// A connection whose other side has gone ends nothing: simulators write to such connections all the time.
func TestLostConnectionEndsNothing(t *testing.T) {
	ctx, _, _, release := signals()
	defer release()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = far.(*net.TCPConn).SetLinger(0)
	_ = far.Close()
	for deadline := time.Now().Add(20 * time.Second); ; { // the first write may still find the connection whole
		if _, err = near.Write([]byte("answer")); errors.Is(err, syscall.EPIPE) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no write failed with a broken pipe: %v", err)
		}
	}
	select {
	case <-ctx.Done():
		t.Fatal("a lost connection ended the process")
	case <-time.After(100 * time.Millisecond): // the signal has come by now, if anybody listens
	}
}

// Output that nobody reads any more ends the process in order.
func TestUnreadOutputEnds(t *testing.T) {
	ctx, kill, end, release := signals()
	defer release()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = write.Close() }()
	out := output{to: write, unread: end}
	if _, err := out.Write([]byte("purchase\n")); err != nil || ctx.Err() != nil {
		t.Fatalf("while it is read: %v, %v", err, ctx.Err())
	}
	_ = read.Close()
	for range 2 {
		if _, err := out.Write([]byte("purchase\n")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("error of the write: %v, want a broken pipe", err)
		}
	}
	if ctx.Err() == nil {
		t.Error("unread output did not end the process")
	}
	select {
	case <-kill:
		t.Error("writing twice was taken for a second signal")
	default:
	}
}
