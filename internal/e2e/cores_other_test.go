//go:build !linux

package e2e

import "testing"

// noCoreFiles needs /proc to look at the limits of other processes.
func noCoreFiles(t *testing.T, _ *system) { t.Skip("only Linux shows the limits of other processes") }
