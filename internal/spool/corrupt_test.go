package spool_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
)

const recordBytes = 1000 // Payload of each record below; its head takes 24 bytes, the segment's head 68.

// filled returns a closed file system with n synced records, synced one by one.
func filled(t *testing.T, n int) *spooltest.FaultFS {
	t.Helper()
	fs := spooltest.New(7)
	s, _ := open(t, config(fs))
	for i := range n {
		must(t, s.Sync(t.Context(), appendRecord(t, s, bytes.Repeat([]byte{byte(i)}, recordBytes))))
	}
	must(t, s.Close())
	return fs
}

func TestDamageIsRefused(t *testing.T) {
	t.Parallel()
	at := func(record int) int { return 68 + record*(24+recordBytes) }
	flip := func(segment, off int) func(*spooltest.FaultFS) {
		return func(fs *spooltest.FaultFS) {
			name := segments(fs)[segment]
			b := fs.Content(name)
			b[off] ^= 0x40
			fs.SetContent(name, b)
		}
	}
	cut := func(segment, size int) func(*spooltest.FaultFS) {
		return func(fs *spooltest.FaultFS) {
			name := segments(fs)[segment]
			fs.SetContent(name, fs.Content(name)[:size])
		}
	}
	remove := func(segment int) func(*spooltest.FaultFS) {
		return func(fs *spooltest.FaultFS) {
			must(t, fs.Remove(segments(fs)[segment]))
			must(t, fs.SyncDir(dir))
		}
	}
	for name, c := range map[string]struct {
		damage func(*spooltest.FaultFS)
		words  []string
	}{
		"payload in the oldest segment":      {flip(0, at(5)+100), []string{fmt.Sprintf("offset %d", at(5)), "record 6 "}},
		"length in the oldest segment":       {flip(0, at(5)+1), []string{fmt.Sprintf("offset %d", at(5))}},
		"number in the oldest segment":       {flip(0, at(5)+10), []string{fmt.Sprintf("offset %d", at(5))}},
		"last record of the oldest segment":  {flip(0, at(62)+30), []string{fmt.Sprintf("offset %d", at(62))}},
		"head of the oldest segment":         {flip(0, 30), []string{"offset 0", "record 1 "}},
		"head of a middle segment":           {flip(1, 30), []string{"offset 0"}},
		"head of the newest segment":         {flip(3, 50), []string{"offset 0"}},
		"middle of the newest segment":       {flip(3, at(5)), []string{fmt.Sprintf("offset %d", at(5))}},
		"first record of the newest segment": {flip(3, at(0)), []string{fmt.Sprintf("offset %d", at(0))}},
		"oldest segment is short":            {cut(0, at(9)+5), []string{fmt.Sprintf("offset %d", at(9))}},
		"middle segment ends early":          {cut(1, at(9)), []string{"offset 0"}},
		"middle segment is empty":            {cut(1, 0), []string{"offset 0"}},
		"oldest segment is missing":          {remove(0), []string{"offset 0", "record 1 "}},
		"middle segment is missing":          {remove(2), []string{"offset 0"}},
	} {
		for _, power := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, power cut %v", name, power), func(t *testing.T) {
				t.Parallel()
				fs := filled(t, 230)
				if n := len(segments(fs)); n != 4 {
					t.Fatalf("%d segments", n)
				}
				c.damage(fs)
				if power {
					fs = fs.Crash(spooltest.Drop)
				}
				before := len(segments(fs))
				for range 2 { // A second try must not find a smaller spool and be content.
					_, _, err := spool.Open(config(fs))
					wantErr(t, err, spool.ErrCorrupt, append(c.words, ".seg", "restore")...)
				}
				if len(segments(fs)) != before {
					t.Error("a refused Open removed segments")
				}
			})
		}
	}
}

func TestAllSegmentsMissing(t *testing.T) {
	t.Parallel()
	fs := filled(t, 10)
	s, _ := open(t, config(fs))
	must(t, s.Ack(5))
	must(t, s.Close())
	for _, n := range segments(fs) {
		must(t, fs.Remove(n))
	}
	_, _, err := spool.Open(config(fs))
	wantErr(t, err, spool.ErrCorrupt, "no segment file is left")
}

func TestSegmentOfAnotherSpool(t *testing.T) {
	t.Parallel()
	fs, other := filled(t, 230), filled(t, 230)
	name := segments(fs)[1]
	fs.SetContent(name, other.Content(name))
	_, _, err := spool.Open(config(fs))
	wantErr(t, err, spool.ErrCorrupt, name[strings.LastIndex(name, "/")+1:], "another spool")
}

// Damage to what was never synced is a torn tail after a power cut, and damage within one boot.
func TestUnsyncedDamage(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(7)
	s, _ := open(t, config(fs))
	for range 20 {
		appendRecord(t, s, make([]byte, recordBytes))
	}
	killed, crashed := fs.Kill(), fs.Crash(spooltest.Keep)
	must(t, s.Close())
	for _, f := range []*spooltest.FaultFS{killed, crashed} {
		b := f.Content(segments(f)[0])
		b[68+5*(24+recordBytes)+500] ^= 1
		f.SetContent(segments(f)[0], b)
	}
	_, _, err := spool.Open(config(killed))
	wantErr(t, err, spool.ErrCorrupt, "record 6 ")
	_, rec := open(t, config(crashed))
	if rec.Records != 5 || rec.TornBytes != 15*(24+recordBytes) || !rec.Rebooted {
		t.Errorf("recovered %+v", rec)
	}
}

func TestTornTail(t *testing.T) {
	t.Parallel()
	for cut := 1; cut < 24+recordBytes; cut += 61 {
		fs := filled(t, 10)
		name := segments(fs)[0]
		b := fs.Content(name)
		fs.SetContent(name, b[:len(b)-cut])
		s, rec := open(t, config(fs))
		if rec.Records != 9 || rec.TornBytes != int64(24+recordBytes-cut) {
			t.Fatalf("cut %d: recovered %+v", cut, rec)
		}
		must(t, s.Close())
		if _, again := open(t, config(fs)); again.Records != 9 || again.TornBytes != 0 {
			t.Fatalf("cut %d: opened again %+v", cut, again)
		}
	}
}

// The acknowledgement file only saves work: without it, or with damage, records are returned again.
func TestAckFileLost(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(b []byte) []byte{
		"empty":       func([]byte) []byte { return nil },
		"zeros":       func(b []byte) []byte { return make([]byte, len(b)) },
		"newest slot": func(b []byte) []byte { b[24] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := filled(t, 230)
			s, _ := open(t, config(fs))
			id := s.ID()
			must(t, s.Ack(100))
			must(t, s.Ack(200))
			must(t, s.Close())
			fs.SetContent(dir+"/ack", damage(fs.Content(dir+"/ack")))
			s, rec := open(t, config(fs))
			if rec.Acked > 200 || rec.Acked < 100 || rec.Records != uint64(230-rec.Acked) || s.ID() != id {
				t.Errorf("recovered %+v", rec)
			}
		})
	}
}
