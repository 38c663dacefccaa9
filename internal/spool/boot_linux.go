package spool

import "os"

// machineBootID is a random UUID that the kernel makes at each boot.
func machineBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(b), err
}
