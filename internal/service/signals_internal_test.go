package service

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	signals, exits := make(chan os.Signal), make(chan int, 1)
	ctx, release := watchSignals(context.Background(), signals, func(code int) { exits <- code })
	defer release()
	signals <- syscall.SIGTERM
	<-ctx.Done()
	if cause := context.Cause(ctx); !strings.Contains(cause.Error(), "terminated") {
		t.Fatalf("cause %v", cause)
	}
	select {
	case code := <-exits:
		t.Fatalf("the first signal ended the process with %d", code)
	default:
	}
	signals <- syscall.SIGINT
	if code := <-exits; code != 130 {
		t.Fatalf("exit status %d", code)
	}
}

func TestSignalsReleased(t *testing.T) {
	t.Parallel()
	ctx, release := SignalContext(context.Background())
	release()
	if ctx.Err() == nil {
		t.Fatal("released and not ended")
	}
}
