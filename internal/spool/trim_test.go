package spool_test

import (
	"testing"

	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
)

// Acknowledged segments stay while an fsync may still use them, and while the next one is not on the disk.
func TestTrimWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	s, _ := open(t, config(fs))
	var last spool.Pos
	for range 63 { // Fills the first segment.
		last = appendRecord(t, s, make([]byte, recordBytes))
	}
	must(t, s.Sync(t.Context(), last))
	entered, release := fs.HoldSync(".seg")
	appendRecord(t, s, make([]byte, recordBytes))
	<-entered
	must(t, s.Ack(last))
	if n := len(segments(fs)); n != 2 {
		t.Errorf("%d segments: one was removed while its successor was not on the disk", n)
	}
	for range 70 {
		last = appendRecord(t, s, make([]byte, recordBytes))
	}
	must(t, s.Ack(last))
	if n := len(segments(fs)); n != 3 {
		t.Errorf("%d segments: one was removed during its fsync", n)
	}
	after := fs.Crash(spooltest.Drop)
	release()
	must(t, s.Sync(t.Context(), last))
	must(t, s.Close())
	other, rec := open(t, config(after))
	if rec.Records != 0 || rec.Acked != last {
		t.Errorf("recovered %+v", rec)
	}
	if pos := appendRecord(t, other, []byte("x")); pos <= last {
		t.Errorf("number %d was used before", pos)
	}
}

// A crash may undo the removal of some acknowledged segments and not of others.
func TestAcknowledgedSegmentsComeBack(t *testing.T) {
	t.Parallel()
	fs := filled(t, 300)
	names := segments(fs)
	old := map[string][]byte{}
	for _, n := range names {
		old[n] = fs.Content(n)
	}
	s, _ := open(t, config(fs))
	must(t, s.Ack(299))
	must(t, s.Close())
	for _, i := range []int{0, 2} {
		fs.SetContent(names[i], old[names[i]])
	}
	if _, rec := open(t, config(fs)); rec.Records != 1 || rec.Acked != 299 {
		t.Errorf("recovered %+v", rec)
	}
}

// A segment that was not on the disk when the next one began: only records of the next one tell that it is now.
func TestLaterSegmentProvesDamage(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	s, _ := open(t, config(fs))
	_, release := fs.HoldSync(".seg")
	var last spool.Pos
	for range 64 {
		last = appendRecord(t, s, make([]byte, recordBytes))
	}
	release()
	must(t, s.Sync(t.Context(), last))
	must(t, s.Sync(t.Context(), appendRecord(t, s, []byte("witness"))))
	after := fs.Crash(spooltest.Drop)
	must(t, s.Close())
	b := after.Content(segments(after)[0])
	b[len(b)-1] ^= 1
	after.SetContent(segments(after)[0], b)
	_, _, err := spool.Open(config(after))
	wantErr(t, err, spool.ErrCorrupt, "record 63 ")
}
