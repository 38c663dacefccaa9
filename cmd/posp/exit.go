package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// The exit codes of every command of posp.
const (
	exitOK        = 0
	exitFailure   = 1 // the command was right, but could not be done
	exitUsage     = 2 // the command itself is wrong
	exitRefused   = 3 // the service refused it, and says what to do
	exitNotFound  = 4 // no such member, domain, version
	exitForbidden = 5 // the certificate may not do this
	exitNoAnswer  = 6 // the service cannot be reached
)

// exitError is an error with the code that the process ends with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError is a wrong call that cobra cannot see.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// codeOf gives the exit code of an error. began says that the command's own work had begun: what cobra refuses before that is a wrong call.
func codeOf(err error, began bool) int {
	var coded *exitError
	var wrong *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &wrong) || !began:
		return exitUsage
	}
	return exitFailure
}

// notice has every command below note when its own work begins.
func notice(c *cobra.Command, began *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*began = true
			return run(cmd, args)
		}
	}
	for _, below := range c.Commands() {
		notice(below, began)
	}
}

// group makes a command that only holds others: by itself it shows its help, and it refuses a name that it does not have.
func group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return &usageError{fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])}
		}
		return cmd.Help()
	}
	return c
}
