//go:build linux || darwin

package service

import (
	"fmt"
	"syscall"
)

// DisableCoreDumps sets RLIMIT_CORE to 0 for this process and its children: a core file would hold keys and PIN blocks.
func DisableCoreDumps() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return nil
}
