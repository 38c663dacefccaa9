package main

import (
	"errors"
	"io"
	"syscall"
)

// output is standard output or standard error. When nobody reads it any more (the other end of a pipe has gone), unread is called.
type output struct {
	to     io.Writer
	unread func()
}

func (o output) Write(text []byte) (int, error) {
	n, err := o.to.Write(text)
	if errors.Is(err, syscall.EPIPE) {
		o.unread()
	}
	return n, err
}
