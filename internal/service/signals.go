package service

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// exitSecondSignal is the exit status after a second signal: 128 + SIGINT, as shells report it.
const exitSecondSignal = 130

// SignalContext returns a context that the first SIGINT or SIGTERM ends: the service then drains. The second signal ends the
// process at once with status 130. release stops listening to signals.
func SignalContext(parent context.Context) (ctx context.Context, release func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	ctx, stop := watchSignals(parent, signals, os.Exit)
	return ctx, func() {
		signal.Stop(signals)
		stop()
	}
}

// watchSignals is SignalContext with its surroundings handed in.
func watchSignals(parent context.Context, signals <-chan os.Signal, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	released, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for first := true; ; first = false {
			select {
			case s := <-signals:
				if !first {
					exit(exitSecondSignal)
					return
				}
				cancel(fmt.Errorf("received signal %s", s))
			case <-released:
				return
			}
		}
	}()
	return ctx, func() {
		close(released)
		<-ended
		cancel(context.Canceled)
	}
}
