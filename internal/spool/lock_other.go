//go:build !unix

package spool

import (
	"errors"
	"io"
)

// Lock refuses: without flock two processes could write one spool.
func (osFS) Lock(string) (io.Closer, error) {
	return nil, errors.New("this operating system has no flock: run the service on Linux or macOS")
}
