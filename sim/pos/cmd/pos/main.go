// Command pos uses a simulated POS terminal of a running system; see package poscmd.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/keyward/keyward/sim/pos/poscmd"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return poscmd.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
