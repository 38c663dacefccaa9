package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// defaultSegmentBytes holds some 50,000 records of a purchase: removing a segment stays rare, and what recovery
	// reads into memory at a time stays small.
	defaultSegmentBytes = 16 << 20
	// minSegmentBytes is room for at least three records of the largest size.
	minSegmentBytes = 64 << 10
	// maxSegmentBytes bounds the memory of recovery, which reads one segment at a time.
	maxSegmentBytes = 256 << 20
	// defaultMaxBytes is about three million records: hours without a database at full load.
	defaultMaxBytes = 1 << 30
	// minSegments is how many segments must fit in MaxBytes, so that the bounds below do not collide.
	minSegments = 4
	// maxSyncWindow is the longest wait that a group commit may add to every transaction.
	maxSyncWindow = time.Second
	// noSpaceRetry is how long Admit refuses after the disk was found full, before an Append may try it again.
	noSpaceRetry = time.Second
)

// Config is the setting of one spool. Only Dir is required.
type Config struct {
	// Dir holds the files of this spool and nothing else. It is created if missing.
	Dir string
	// FS is the file layer; nil stands for OS().
	FS FS
	// SegmentBytes is the size at which a new file is begun; default 16 MiB, at least 64 KiB, at most 256 MiB.
	SegmentBytes int64
	// MaxBytes bounds all segment files together; default 1 GiB, at least four segments. An Append that would exceed it
	// returns ErrFull.
	MaxBytes int64
	// HighWater is the size at which Admit begins to refuse new work, so that work already under way can still be
	// recorded up to MaxBytes; default MaxBytes less one eighth.
	HighWater int64
	// LowWater is the size at or below which Admit and Append accept again after a refusal; default half of MaxBytes, at least
	// two segments (the newest ones are never removed), below HighWater.
	LowWater int64
	// SyncWindow is how long an fsync waits for further records to join. The default 0 batches naturally: what
	// arrives during one fsync shares the next.
	SyncWindow time.Duration
	// BootID names the current boot of the machine; "" asks the operating system.
	BootID string
	// Now is the clock; nil stands for time.Now.
	Now func() time.Time
	// Log receives recovery and failure; nil discards.
	Log *slog.Logger
	// Metrics receives the collectors; nil leaves them out.
	Metrics prometheus.Registerer
}

// complete fills defaults and checks that the bounds agree.
func (c Config) complete() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("no directory is set: give the spool a directory of its own")
	}
	if c.FS == nil {
		c.FS = OS()
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = max(defaultMaxBytes, minSegments*c.SegmentBytes)
	}
	if c.HighWater == 0 {
		c.HighWater = c.MaxBytes - c.MaxBytes/8
	}
	if c.LowWater == 0 {
		c.LowWater = c.MaxBytes / 2
	}
	switch {
	case c.SegmentBytes < minSegmentBytes || c.SegmentBytes > maxSegmentBytes:
		return c, fmt.Errorf("segment size %d is outside %d to %d bytes", c.SegmentBytes, minSegmentBytes, maxSegmentBytes)
	case c.MaxBytes < minSegments*c.SegmentBytes:
		return c, fmt.Errorf("size limit %d is below %d segments of %d bytes", c.MaxBytes, minSegments, c.SegmentBytes)
	case c.LowWater < 2*c.SegmentBytes:
		return c, fmt.Errorf("low water %d is below two segments of %d bytes and could never be reached", c.LowWater, c.SegmentBytes)
	case c.HighWater > c.MaxBytes || c.LowWater >= c.HighWater:
		return c, fmt.Errorf("low water %d, high water %d and size limit %d must rise in this order", c.LowWater, c.HighWater, c.MaxBytes)
	case c.SyncWindow < 0 || c.SyncWindow > maxSyncWindow:
		return c, fmt.Errorf("sync window %v is outside 0 to %v", c.SyncWindow, maxSyncWindow)
	}
	if c.BootID == "" {
		id, err := machineBootID()
		if err != nil {
			return c, fmt.Errorf("read the boot id of the machine: %w", err)
		}
		c.BootID = id
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
