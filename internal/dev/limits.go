package dev

import (
	"log/slog"
	"syscall"
)

// raiseFileLimit raises the soft limit of open files to the hard one, for this process and its children: every terminal holds a
// connection. Setting it explicitly also keeps Go from giving children the old limit.
func raiseFileLimit(log *slog.Logger) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("the limit of open files cannot be read", "error", err)
		return
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("the limit of open files cannot be raised", "error", err)
	}
}
