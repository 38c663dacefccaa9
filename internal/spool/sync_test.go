package spool_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
)

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	const writers = 200
	fs := spooltest.New(1)
	s, _ := open(t, config(fs))
	first := appendRecord(t, s, []byte("first"))
	entered, release := fs.HoldSync(".seg")
	before := fs.Syncs()
	var wg sync.WaitGroup
	errs := make(chan error, writers+1)
	wg.Go(func() { errs <- s.Sync(t.Context(), first) })
	<-entered
	// The disk is busy with the first record's fsync; everyone else appends meanwhile, and nobody is held up.
	var appended sync.WaitGroup
	for range writers {
		appended.Add(1)
		wg.Go(func() {
			pos, err := s.Append([]byte("record"))
			appended.Done()
			errs <- errors.Join(err, s.Sync(t.Context(), pos))
		})
	}
	appended.Wait()
	release()
	wg.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
	if got := fs.Syncs() - before; got != 2 {
		t.Errorf("%d fsyncs for %d writers, want 2: one running, one for all who came meanwhile", got, writers+1)
	}
	after := fs.Crash(spooltest.Drop)
	must(t, s.Close())
	if _, rec := open(t, config(after)); rec.Records != writers+1 {
		t.Errorf("recovered %d records, want %d", rec.Records, writers+1)
	}
}

func TestSyncWindowCollects(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	c := config(fs)
	c.SyncWindow = 100 * time.Millisecond
	s, _ := open(t, c)
	var wg sync.WaitGroup
	before := fs.Syncs()
	for range 20 {
		wg.Go(func() {
			pos, err := s.Append([]byte("record"))
			if err = errors.Join(err, s.Sync(t.Context(), pos)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := fs.Syncs() - before; got >= 20 {
		t.Errorf("%d fsyncs for 20 records", got)
	}
}

func TestSyncWaitEndsWithContext(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	s, _ := open(t, config(fs))
	pos := appendRecord(t, s, []byte("a"))
	entered, release := fs.HoldSync(".seg")
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- s.Sync(ctx, pos) }()
	<-entered
	cancel()
	wantErr(t, <-got, context.Canceled)
}

// A disk that falls behind holds the appender up after maxUnsynced segments, and lets it go on when it has caught up.
func TestAppendWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	s, _ := open(t, config(fs))
	entered, release := fs.HoldSync(".seg")
	const n = 40 // 16 KiB each, three to a segment.
	done := make(chan error)
	go func() {
		for range n {
			if _, err := s.Append(make([]byte, spool.MaxRecord)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	<-entered // The first full segment asks for its fsync.
	// The appender needs a moment to run into the bound; a shorter wait could only make the test pass too easily.
	select {
	case err := <-done:
		t.Fatalf("appended without bound: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if got := len(segments(fs)); got > 4 {
		t.Errorf("%d segments while nothing was fsynced", got)
	}
	release()
	must(t, <-done)
}

func TestSyncErrorIsFinal(t *testing.T) {
	t.Parallel()
	for _, fault := range spooltest.SyncFaults {
		fs := spooltest.New(1)
		c := config(fs)
		reg := prometheus.NewRegistry()
		c.Metrics, c.Log = reg, slog.New(slog.DiscardHandler)
		s, _ := open(t, c)
		good := appendRecord(t, s, []byte("good"))
		must(t, s.Sync(t.Context(), good))
		bad := appendRecord(t, s, []byte("bad"))
		fs.FailSync(1, fault)
		wantErr(t, s.Sync(t.Context(), bad), spool.ErrFailed, "fsync", ".seg", "stop this instance")
		<-s.Failed()
		syncs := fs.Syncs()
		wantErr(t, s.Sync(t.Context(), bad), syscall.EIO)
		must(t, s.Sync(t.Context(), good)) // Confirmed before the error, and still true.
		_, err := s.Append([]byte("x"))
		wantErr(t, err, spool.ErrFailed)
		_, err = s.Next(t.Context(), 0, 1)
		wantErr(t, err, spool.ErrFailed)
		wantErr(t, s.Ack(good), spool.ErrFailed)
		wantErr(t, s.Admit(), spool.ErrFailed)
		wantErr(t, s.Err(), spool.ErrFailed)
		wantErr(t, s.Close(), spool.ErrFailed)
		if fs.Syncs() != syncs {
			t.Error("fsync was tried again after it had failed")
		}
		c.Metrics = nil
		s, rec := open(t, c)
		if want := map[bool]uint64{false: 2, true: 1}[fault == spooltest.Forget]; rec.Records != want || !rec.SyncFailed || rec.Rebooted {
			t.Fatalf("fault %v: recovered %+v, want %d records", fault, rec, want)
		}
		// What the restart recovered is on the disk, although the page cache had looked clean.
		after := fs.Crash(spooltest.Drop)
		must(t, s.Close())
		if _, again := open(t, config(after)); again.Records != rec.Records || again.SyncFailed {
			t.Errorf("fault %v: recovered %+v before and %+v after a power cut", fault, rec, again)
		}
	}
}

func TestAckSyncErrorIsFinal(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	s, _ := open(t, config(fs))
	pos := appendRecord(t, s, []byte("a"))
	must(t, s.Sync(t.Context(), pos))
	fs.FailSync(1, spooltest.Forget)
	wantErr(t, s.Ack(pos), spool.ErrFailed)
	must(t, s.Sync(t.Context(), pos))
	_ = s.Close() // Failed before.
	if _, rec := open(t, config(fs)); rec.Records != 1 {
		t.Errorf("recovered %+v: a lost acknowledgement means that the record is returned again", rec)
	}
}

// An acknowledgement that only the page cache holds must be written anew before segments are removed because of it.
func TestAckMarkedClean(t *testing.T) {
	t.Parallel()
	fs := filled(t, 230)
	s, _ := open(t, config(fs))
	fs.FailSync(1, spooltest.MarkClean)
	wantErr(t, s.Ack(200), spool.ErrFailed)
	_ = s.Close() // Failed before.
	s, rec := open(t, config(fs))
	if rec.Acked != 200 || !rec.SyncFailed {
		t.Fatalf("recovered %+v", rec)
	}
	after := fs.Crash(spooltest.Drop)
	must(t, s.Close())
	if _, rec := open(t, config(after)); rec.Acked != 200 || rec.Records != 30 {
		t.Errorf("after a power cut: %+v", rec)
	}
}

// failingTruncate is a file layer on which a partial write cannot be cut back.
type failingTruncate struct{ *spooltest.FaultFS }

type noTruncate struct{ spool.File }

func (noTruncate) Truncate(int64) error { return syscall.EIO }

func (f failingTruncate) OpenFile(name string, flag int, perm fs.FileMode) (spool.File, error) {
	file, err := f.FaultFS.OpenFile(name, flag, perm)
	return noTruncate{file}, err
}

func TestPartialWriteThatStaysIsFinal(t *testing.T) {
	t.Parallel()
	mem := spooltest.New(1)
	c := config(mem)
	c.FS = failingTruncate{mem}
	s, _ := open(t, c)
	appendRecord(t, s, []byte("good"))
	mem.SetSpace(30)
	_, err := s.Append(make([]byte, 500))
	wantErr(t, err, spool.ErrFailed, "cut back")
	wantErr(t, s.Close(), spool.ErrFailed)
	mem.SetSpace(-1)
	_, rec := open(t, config(mem))
	if rec.Records != 1 || rec.TornBytes != 30 {
		t.Errorf("recovered %+v", rec)
	}
}

func TestMetricsOfFsync(t *testing.T) {
	t.Parallel()
	c := config(spooltest.New(1))
	reg := prometheus.NewRegistry()
	c.Metrics = reg
	s, _ := open(t, c)
	must(t, s.Sync(t.Context(), appendRecord(t, s, []byte("a"))))
	if n, err := testutil.GatherAndCount(reg, "keyward_spool_fsyncs_total", "keyward_spool_fsync_seconds"); err != nil || n != 2 {
		t.Errorf("%d metrics, %v", n, err)
	}
	other := config(spooltest.New(2))
	other.Metrics = reg
	if _, _, err := spool.Open(other); err == nil {
		t.Error("two spools under the same labels")
	}
	must(t, s.Close())
	open(t, other)
}
