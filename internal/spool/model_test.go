package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
)

// model is what a spool must hold. It walks random operations and compares after every reopening.
type model struct {
	t       *testing.T
	r       *rand.Rand
	fs      *spooltest.FaultFS
	s       *spool.Spool
	records []spool.Record // Appended and not acknowledged, in order.
	synced  spool.Pos      // Confirmed by Sync.
	acked   spool.Pos
	highest spool.Pos // Largest number ever given out.
	first   bool      // The next append is the first of its run.
	log     []string
}

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nlast operations: %v", fmt.Sprintf(format, args...), m.log[max(0, len(m.log)-12):])
}

func (m *model) append() {
	b := make([]byte, 1+m.r.IntN(700))
	if m.r.IntN(10) == 0 {
		b = make([]byte, 1+m.r.IntN(spool.MaxRecord))
	}
	for i := range b {
		b[i] = byte(m.r.Uint32())
	}
	pos, err := m.s.Append(b)
	if errors.Is(err, spool.ErrFull) {
		m.ack(len(m.records))
		return
	}
	if errors.Is(err, spool.ErrFailed) {
		return // Only after an injected fsync error; the caller reopens.
	}
	if err != nil {
		m.fatalf("append: %v", err)
	}
	if pos <= m.highest || !m.first && pos != m.highest+1 {
		m.fatalf("number %d after %d", pos, m.highest)
	}
	m.first, m.highest = false, pos
	m.records = append(m.records, spool.Record{Pos: pos, Data: b})
}

func (m *model) sync() {
	if len(m.records) == 0 {
		return
	}
	pos := m.records[m.r.IntN(len(m.records))].Pos
	if err := m.s.Sync(m.t.Context(), pos); err != nil {
		if !errors.Is(err, spool.ErrFailed) {
			m.fatalf("sync: %v", err)
		}
		return
	}
	m.synced = max(m.synced, pos)
}

// ack reads n records, compares and acknowledges them.
func (m *model) ack(n int) {
	for n > 0 {
		got, err := m.s.Next(m.t.Context(), m.acked, 1+m.r.IntN(n))
		if err != nil {
			m.fatalf("next: %v", err)
		}
		m.same(got, m.records[:len(got)])
		n -= len(got)
		if err := m.s.Ack(got[len(got)-1].Pos); err != nil {
			m.fatalf("ack: %v", err)
		}
		m.acked = got[len(got)-1].Pos
		m.records = m.records[len(got):]
	}
}

func (m *model) same(got, want []spool.Record) {
	m.t.Helper()
	for i := range got {
		if got[i].Pos != want[i].Pos || !bytes.Equal(got[i].Data, want[i].Data) {
			m.fatalf("record %d: got number %d (%d bytes), want %d (%d bytes)", i, got[i].Pos, len(got[i].Data), want[i].Pos, len(want[i].Data))
		}
	}
}

// reopen opens what a crash left and compares. whole tells that nothing may be missing.
func (m *model) reopen(fs *spooltest.FaultFS, whole, rebooted bool) {
	m.t.Helper()
	_ = m.s.Close() // The old process; what it still does happens to a file system that nobody sees again.
	m.fs = fs
	s, rec, err := spool.Open(config(fs))
	if err != nil {
		m.fatalf("open: %v", err)
	}
	m.s = s
	if rec.Rebooted != rebooted || rec.Acked != m.acked || rec.Records > uint64(len(m.records)) || whole && rec.TornBytes != 0 {
		m.fatalf("recovered %+v, want rebooted %v, acked %d, at most %d records", rec, rebooted, m.acked, len(m.records))
	}
	var got []spool.Record
	for after := m.acked; uint64(len(got)) < rec.Records; after = got[len(got)-1].Pos {
		recs, err := s.Next(m.t.Context(), after, 1+m.r.IntN(100))
		if err != nil {
			m.fatalf("next: %v", err)
		}
		got = append(got, recs...)
	}
	m.same(got, m.records[:len(got)])
	lost := m.records[len(got):]
	if len(lost) > 0 && (whole || lost[0].Pos <= m.synced) {
		m.fatalf("record %d is lost: whole %v, synced up to %d", lost[0].Pos, whole, m.synced)
	}
	m.records = m.records[:len(got)]
	m.synced, m.first = m.highest, true // What was recovered is durable.
}

func (m *model) step() {
	mode := spooltest.Modes[m.r.IntN(len(spooltest.Modes))]
	switch p := m.r.IntN(1000); {
	case p < 750:
		m.log = append(m.log, "append")
		m.append()
	case p < 860:
		m.log = append(m.log, "sync")
		m.sync()
	case p < 940:
		m.log = append(m.log, "ack")
		if len(m.records) > 0 {
			m.ack(1 + m.r.IntN(len(m.records)))
		}
	case p < 960:
		m.log = append(m.log, "kill")
		m.reopen(m.fs.Kill(), true, false)
	case p < 963:
		m.log = append(m.log, "ack cut off")
		m.cutAck(mode)
	case p < 985:
		m.log = append(m.log, "crash "+mode.String())
		m.reopen(m.fs.Crash(mode), false, true)
	case p < 990:
		m.log = append(m.log, "close")
		if err := m.s.Close(); err != nil {
			m.fatalf("close: %v", err)
		}
		m.reopen(m.fs.Kill(), true, false)
	default:
		m.failSync(mode)
	}
}

// cutAck cuts the power while an acknowledgement is being written.
func (m *model) cutAck(mode spooltest.Mode) {
	if len(m.records) == 0 {
		return
	}
	pos := m.records[m.r.IntN(len(m.records))].Pos
	entered, release := m.fs.HoldSync("/ack")
	done := make(chan error)
	go func() { done <- m.s.Ack(pos) }()
	<-entered
	after := m.fs.Crash(mode)
	release()
	if err := <-done; err != nil {
		m.fatalf("ack: %v", err)
	}
	_ = m.s.Close() // Before Open, so that the question below is asked of the new file system only.
	probe, rec, err := spool.Open(config(after))
	if err != nil {
		m.fatalf("open: %v", err)
	}
	_ = probe.Close() // Opened again by reopen.
	if rec.Acked != m.acked && rec.Acked != pos {
		m.fatalf("acknowledged %d, want %d or %d", rec.Acked, m.acked, pos)
	}
	for m.acked = rec.Acked; len(m.records) > 0 && m.records[0].Pos <= m.acked; {
		m.records = m.records[1:]
	}
	m.reopen(after, false, false)
}

// failSync lets an fsync fail, with or without loss of the dirty data, then restarts the process or the machine, and cuts
// the power right after: what the restart recovered must be on the disk and not only in the page cache.
func (m *model) failSync(mode spooltest.Mode) {
	m.log = append(m.log, "fsync error "+mode.String())
	m.fs.FailSync(1+m.r.IntN(3), spooltest.SyncFaults[m.r.IntN(len(spooltest.SyncFaults))])
	for m.s.Err() == nil {
		m.append()
		m.sync()
	}
	if m.r.IntN(2) == 0 {
		m.reopen(m.fs.Crash(mode), false, true)
		return
	}
	m.reopen(m.fs.Kill(), false, false)
	m.log = append(m.log, "crash drop")
	m.reopen(m.fs.Crash(spooltest.Drop), true, true)
}

func TestModel(t *testing.T) {
	t.Parallel()
	seeds, steps := uint64(24), 2000
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			fs := spooltest.New(seed)
			m := &model{t: t, r: rand.New(rand.NewPCG(seed, 2)), fs: fs, first: true} // Repeatable.
			m.s, _ = open(t, config(fs))
			defer func() { _ = m.s.Close() }() // Compared before.
			for range steps {
				m.step()
			}
			m.reopen(m.fs.Crash(spooltest.Drop), false, true)
		})
	}
}
