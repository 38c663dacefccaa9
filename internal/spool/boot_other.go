//go:build !linux && !darwin

package spool

import "crypto/rand"

// machineBootID is new at each call where the system has no boot id: every start is then treated as after a power
// cut, which is the safe reading.
func machineBootID() (string, error) { return rand.Text(), nil }
