package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
)

const (
	dir     = "/spool"
	segment = 64 << 10
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

func config(fs *spooltest.FaultFS) spool.Config {
	return spool.Config{Dir: dir, FS: fs, BootID: fs.BootID(), SegmentBytes: segment, MaxBytes: 64 * segment}
}

func open(t testing.TB, c spool.Config) (*spool.Spool, spool.Recovery) {
	t.Helper()
	s, rec, err := spool.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // A failure was looked at by the test itself.
	return s, rec
}

func appendRecord(t testing.TB, s *spool.Spool, b []byte) spool.Pos {
	t.Helper()
	pos, err := s.Append(b)
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func next(t testing.TB, s *spool.Spool, after spool.Pos, limit int) []spool.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	recs, err := s.Next(ctx, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, target error, words ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not tell %q", err, w)
		}
	}
}

func TestAppendReadAckTrim(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	c := config(fs)
	reg := prometheus.NewRegistry()
	c.Metrics = reg
	s, rec := open(t, c)
	if rec != (spool.Recovery{}) {
		t.Fatalf("new spool recovered %+v", rec)
	}
	const n = 500
	var last spool.Pos
	for i := range n {
		last = appendRecord(t, s, bytes.Repeat([]byte{byte(i)}, 1000))
		if last != spool.Pos(i+1) {
			t.Fatalf("record %d got number %d", i, last)
		}
	}
	must(t, s.Sync(t.Context(), last))
	before := len(fs.Names())
	var after spool.Pos
	for after < last {
		for _, r := range next(t, s, after, 7) {
			if r.Pos != after+1 || len(r.Data) != 1000 || r.Data[0] != byte(r.Pos-1) {
				t.Fatalf("after %d came %d, %d bytes", after, r.Pos, len(r.Data))
			}
			after = r.Pos
		}
	}
	again := next(t, s, 250, 1)
	if again[0].Pos != 251 {
		t.Fatalf("read again from 250: got %d", again[0].Pos)
	}
	must(t, s.Ack(last-1))
	must(t, s.Ack(10)) // An older number changes nothing.
	if got := next(t, s, 0, 10); len(got) != 1 || got[0].Pos != last {
		t.Fatalf("after the acknowledgement %d records are left", len(got))
	}
	if now := len(fs.Names()); now >= before || now > 4 {
		t.Fatalf("%d files before, %d after the acknowledgement: %v", before, now, fs.Names())
	}
	if got := testutil.CollectAndCount(reg); got != 7 {
		t.Errorf("%d metrics, want 7", got)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP keyward_spool_appended_records_total Records appended.
# TYPE keyward_spool_appended_records_total counter
keyward_spool_appended_records_total 500
# HELP keyward_spool_appended_bytes_total Bytes appended, record heads included.
# TYPE keyward_spool_appended_bytes_total counter
keyward_spool_appended_bytes_total 512000
# HELP keyward_spool_pending_records Records that are not acknowledged yet.
# TYPE keyward_spool_pending_records gauge
keyward_spool_pending_records 1
`), "keyward_spool_appended_records_total", "keyward_spool_appended_bytes_total", "keyward_spool_pending_records"); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
	must(t, s.Close())
	if got := testutil.CollectAndCount(reg); got != 0 {
		t.Errorf("%d metrics are left after Close", got)
	}
	s, rec = open(t, c)
	if rec.Records != 1 || rec.Last != last || rec.Acked != last-1 || rec.Rebooted || rec.TornBytes != 0 {
		t.Fatalf("reopened: %+v", rec)
	}
	if pos := appendRecord(t, s, []byte("x")); pos != last+1 {
		t.Fatalf("numbering goes on at %d", pos)
	}
}

func TestOperatingSystemFiles(t *testing.T) {
	t.Parallel()
	c := spool.Config{Dir: filepath.Join(t.TempDir(), "a", "b")}
	s, _ := open(t, c)
	id := s.ID()
	pos := appendRecord(t, s, []byte("kept"))
	must(t, s.Sync(t.Context(), pos))
	_, _, err := spool.Open(c)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d:", os.Getpid())) {
		t.Fatalf("second opener: %v", err)
	}
	must(t, s.Close())
	s, rec := open(t, c)
	if rec.Records != 1 || rec.Rebooted || s.ID() != id {
		t.Fatalf("reopened %s as %s: %+v", id, s.ID(), rec)
	}
	if got := next(t, s, 0, 5); string(got[0].Data) != "kept" {
		t.Fatalf("read %q", got[0].Data)
	}
	must(t, s.Ack(pos))
}

func TestRestartLoopLeavesOneEmptySegment(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	for i := range 20 {
		s, _ := open(t, config(fs))
		must(t, s.Close())
		if i%3 == 2 {
			fs = fs.Crash(spooltest.Drop)
		}
		if got := fs.Names(); len(got) > 2 {
			t.Fatalf("round %d: %v", i, got)
		}
	}
}

func TestNextWaitsAndStops(t *testing.T) {
	t.Parallel()
	s, _ := open(t, config(spooltest.New(1)))
	got := make(chan error)
	go func() {
		recs, err := s.Next(context.Background(), 0, 1)
		if err == nil && string(recs[0].Data) != "a" {
			err = fmt.Errorf("read %q", recs[0].Data)
		}
		got <- err
	}()
	pos := appendRecord(t, s, []byte("a"))
	must(t, <-got)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, err := s.Next(ctx, pos, 1); got <- err }()
	cancel()
	wantErr(t, <-got, context.Canceled)
	go func() { _, err := s.Next(context.Background(), pos, 1); got <- err }()
	must(t, s.Close())
	wantErr(t, <-got, spool.ErrClosed)
	_, err := s.Append([]byte("b"))
	wantErr(t, err, spool.ErrClosed)
	wantErr(t, s.Ack(pos), spool.ErrClosed)
	wantErr(t, s.Admit(), spool.ErrClosed)
}

// A segment larger than what Next reads at a time.
func TestNextReadsInChunks(t *testing.T) {
	t.Parallel()
	c := config(spooltest.New(1))
	c.SegmentBytes = 1 << 20
	s, _ := open(t, c)
	const n = 900
	for range n {
		appendRecord(t, s, make([]byte, 1001)) // No chunk ends with a record.
	}
	for after := spool.Pos(0); after < n; {
		recs := next(t, s, after, n)
		if recs[0].Pos != after+1 || len(recs) > 256 {
			t.Fatalf("after %d: %d records from %d", after, len(recs), recs[0].Pos)
		}
		after += spool.Pos(len(recs))
	}
	// Without a remembered place the record is found by reading from the start of the segment.
	if got := next(t, s, 700, 1); got[0].Pos != 701 {
		t.Fatalf("after 700: %d", got[0].Pos)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	s, _ := open(t, config(fs))
	for _, n := range []int{0, spool.MaxRecord + 1} {
		_, err := s.Append(make([]byte, n))
		wantErr(t, err, spool.ErrSize)
	}
	pos := appendRecord(t, s, make([]byte, spool.MaxRecord))
	if err := s.Sync(t.Context(), pos+1); err == nil {
		t.Error("sync of a record that does not exist was accepted")
	}
	if err := s.Ack(pos + 1); err == nil {
		t.Error("acknowledgement of a record that does not exist was accepted")
	}
	if _, err := s.Next(t.Context(), 0, 0); err == nil {
		t.Error("limit 0 was accepted")
	}
	if _, _, err := spool.Open(config(fs)); err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("second opener: %v", err)
	}
	fs.FailReads(syscall.EIO)
	_, err := s.Next(t.Context(), 0, 1)
	wantErr(t, err, syscall.EIO, "offset")
	fs.FailReads(nil)
	if got := next(t, s, 0, 1); len(got) != 1 {
		t.Error("a read error was not passing")
	}
}

func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]spool.Config{
		"no directory":     {},
		"tiny segment":     {Dir: dir, SegmentBytes: 1},
		"huge segment":     {Dir: dir, SegmentBytes: 1 << 40},
		"few segments":     {Dir: dir, SegmentBytes: segment, MaxBytes: segment},
		"low water low":    {Dir: dir, SegmentBytes: segment, MaxBytes: 8 * segment, LowWater: 1},
		"low above high":   {Dir: dir, SegmentBytes: segment, MaxBytes: 8 * segment, LowWater: 6 * segment, HighWater: 5 * segment},
		"high above limit": {Dir: dir, SegmentBytes: segment, MaxBytes: 8 * segment, HighWater: 9 * segment},
		"window":           {Dir: dir, SyncWindow: time.Hour},
	} {
		c.FS = spooltest.New(1)
		if _, _, err := spool.Open(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
