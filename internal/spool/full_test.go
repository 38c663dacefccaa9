package spool_test

import (
	"errors"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
)

// segments returns the paths of the segment files.
func segments(fs *spooltest.FaultFS) []string {
	return slices.DeleteFunc(fs.Names(), func(n string) bool { return filepath.Ext(n) != ".seg" })
}

func TestFullAndLowWater(t *testing.T) {
	t.Parallel()
	fs := spooltest.New(1)
	c := config(fs)
	c.MaxBytes, c.HighWater, c.LowWater = 8*segment, 6*segment, 3*segment
	reg := prometheus.NewRegistry()
	c.Metrics = reg
	s, _ := open(t, c)
	var last spool.Pos
	var admitted spool.Pos
	for {
		if s.Admit() == nil {
			admitted = last
		}
		pos, err := s.Append(make([]byte, 2000))
		if err != nil {
			wantErr(t, err, spool.ErrFull, "bytes used", "shipper")
			break
		}
		last = pos
	}
	if admitted == 0 || float64(admitted) > 0.8*float64(last) {
		t.Errorf("new work was admitted up to record %d of %d: no room is left for what is under way", admitted, last)
	}
	var total int
	for _, n := range segments(fs) {
		total += len(fs.Content(n))
	}
	if int64(total) > c.MaxBytes || int64(total) < c.MaxBytes-4000 {
		t.Errorf("%d bytes on disk, limit %d", total, c.MaxBytes)
	}
	must(t, s.Sync(t.Context(), last))
	step := last / 8
	must(t, s.Ack(step*2))
	_, err := s.Append(make([]byte, 10))
	wantErr(t, err, spool.ErrFull) // Above low water.
	wantErr(t, s.Admit(), spool.ErrFull)
	must(t, s.Ack(step*7))
	must(t, s.Admit())
	if pos := appendRecord(t, s, make([]byte, 10)); pos != last+1 {
		t.Errorf("record %d after %d: a refusal used a number", pos, last)
	}
	must(t, s.Close())
	c.Metrics = nil
	_, rec := open(t, c)
	if rec.Last != last+1 || rec.Records != uint64(last+1-step*7) {
		t.Errorf("recovered %+v, want last %d", rec, last+1)
	}
}

// Every place at which the disk may become full: nothing is lost, nothing torn remains, and work goes on with space.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for room := int64(0); room < 3*segment; room += 1777 {
		fs := spooltest.New(uint64(room))
		now := time.Unix(1000, 0)
		c := config(fs)
		c.Now = func() time.Time { return now }
		s, _ := open(t, c)
		fs.SetSpace(room)
		var last spool.Pos
		for {
			pos, err := s.Append(make([]byte, 1500))
			if err != nil {
				wantErr(t, err, spool.ErrFull)
				if !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				break
			}
			last = pos
		}
		wantErr(t, s.Admit(), spool.ErrFull, "disk")
		now = now.Add(2 * time.Second)
		must(t, s.Admit())
		if last > 0 {
			must(t, s.Sync(t.Context(), last))
			must(t, s.Ack(last/2))
		}
		killed := fs.Kill()
		killed.SetSpace(-1)
		other, rec := open(t, config(killed))
		if rec.TornBytes != 0 || rec.Records != uint64(last-last/2) {
			t.Fatalf("room %d: recovered %+v, want %d records", room, rec, last-last/2)
		}
		must(t, other.Close())
		fs.SetSpace(-1)
		if pos := appendRecord(t, s, make([]byte, 1500)); pos != last+1 {
			t.Fatalf("room %d: record %d after %d", room, pos, last)
		}
		must(t, s.Sync(t.Context(), last+1))
		must(t, s.Close())
	}
}

func TestOpenOnFullDisk(t *testing.T) {
	t.Parallel()
	for room := range int64(9000) {
		if room%500 != 0 {
			continue
		}
		fs := spooltest.New(1)
		fs.SetSpace(room)
		s, _, err := spool.Open(config(fs))
		if err == nil {
			must(t, s.Close())
			continue
		}
		wantErr(t, err, syscall.ENOSPC)
		fs.SetSpace(-1)
		open(t, config(fs))
	}
}
