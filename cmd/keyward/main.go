// Command keyward runs the whole system on one machine: "keyward dev" starts it and stays, "keyward demo" tells the story once and
// ends, "keyward sim" is the process of the simulators. "keyward init" and "keyward fill" do for containers what dev does for itself.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // time zones for machines that have none installed

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/service"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, kill, end, release := signals()
	defer release()
	root := &cobra.Command{
		Use: "keyward", Short: "Run the whole of Keyward on this machine", Version: service.Version(), SilenceUsage: true, SilenceErrors: true,
	}
	root.SetOut(output{to: os.Stdout, unread: end})
	root.SetErr(output{to: os.Stderr, unread: end})
	root.AddCommand(devCommand(kill), demoCommand(kill), simCommand(), migrateCommand(), initCommand(), fillCommand(), benchCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "keyward: "+err.Error())
		return 1
	}
	return 0
}

// signals ends ctx at the first SIGINT, SIGTERM or SIGHUP (the terminal was closed) and closes kill at the second: then nothing is
// waited for any more. end ends ctx, too, but any number of calls is no second signal.
func signals() (ctx context.Context, kill <-chan struct{}, end, release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// SIGPIPE comes for every write to a connection whose other side has gone, too, which is a simulator's daily bread. So nobody
	// reads it: it only must not kill, and output sees from the error of the write that nobody reads it any more.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	now, done := make(chan struct{}), make(chan struct{})
	go func() {
		for first := true; ; first = false {
			select {
			case <-caught:
				if !first {
					close(now)
					return
				}
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, now, cancel, func() {
		signal.Stop(caught)
		signal.Stop(pipe)
		close(done)
		cancel()
	}
}
