//go:build !linux && !darwin

package service

import (
	"fmt"
	"runtime"
)

// DisableCoreDumps is only known for Linux and macOS; elsewhere it refuses, so that nobody believes core dumps to be off.
func DisableCoreDumps() error {
	return fmt.Errorf("switch core dumps off: not known how on %s", runtime.GOOS)
}
