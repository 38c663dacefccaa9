package exchangelog

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowDisk writes nothing until it is let go.
type slowDisk struct {
	osStore
	entered chan struct{} // one for each write that waits
	let     chan struct{}
}

func (d *slowDisk) create(path string) (file, error) {
	f, err := d.osStore.create(path)
	return &slowFile{file: f, disk: d}, err
}

type slowFile struct {
	file
	disk *slowDisk
}

func (f *slowFile) Write(b []byte) (int, error) {
	select {
	case f.disk.entered <- struct{}{}:
	default:
	}
	<-f.disk.let
	return f.file.Write(b)
}

// The disk hangs in the middle of a write: Record goes on without waiting, and the journal says what it could not hold.
func TestOverload(t *testing.T) {
	t.Parallel()
	disk := &slowDisk{entered: make(chan struct{}, 1), let: make(chan struct{})}
	w := journal(t, Config{}, disk)
	record(w, 1, 1)
	<-disk.entered // by itself: writeDelay has passed
	const more = maxBuffered/150 + 1000
	record(w, 2, more)
	close(disk.let)
	flush(t, w)
	record(w, more+1, more+1)
	stop(t, w)
	got := counts(whole(t, w.cfg.Dir))
	if !strings.HasPrefix(got, "1-") || !strings.Contains(got, " gap overload ") || strings.Count(got, " ") != 4 {
		t.Errorf("the journal holds %q", got)
	}
	var lost, lines uint64
	for _, e := range whole(t, w.cfg.Dir) {
		if e.Gap != nil {
			lost = e.Gap.Lost
		} else {
			lines++
		}
	}
	if lost == 0 || lines+lost != more+1 {
		t.Errorf("%d lines and %d lost are not %d", lines, lost, more+1)
	}
}

// After the first exchange that does not fit no shorter one is let in, or the gap would stand at the wrong place.
func TestOrderWhenFull(t *testing.T) {
	t.Parallel()
	w, err := New(Config{Dir: t.TempDir(), Group: "online", Instance: "posp-1"})
	if err != nil {
		t.Fatal(err)
	}
	long, short := exchange(1), exchange(2)
	short.Serial = Serial{}
	line, _ := short.MarshalJSON()
	w.active = w.active[:maxBuffered-len(line)-1]
	w.Record(long)
	w.Record(short)
	taken := w.take(make([]byte, 0, maxBuffered))
	if taken = taken[maxBuffered-len(line)-1:]; !strings.Contains(string(taken[:maxLine/8]), `"gap":"overload"`) || !strings.HasSuffix(string(taken), `"lost":2}`+"\n") {
		t.Errorf("%s", taken)
	}
	record(w, 3, 3) // there is room again
	if taken = w.take(nil); linesIn(taken) != 1 {
		t.Errorf("%s", taken)
	}
}

// Many callers, many files, then switching off and on in the middle of it: every exchange is either in the journal or in a gap.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := journal(t, Config{FileBytes: minFileBytes}, nil)
	const callers, each, rounds = 8, 1000, 2
	serials := NewSerials("posp-1", time.Now())
	for round := range rounds {
		var working sync.WaitGroup
		for range callers {
			working.Go(func() {
				for range each {
					e := exchange(0)
					e.Serial = serials.Next()
					w.Record(e)
				}
			})
		}
		for range 50 * round {
			w.Switch(false)
			w.Switch(true)
			flush(t, w)
		}
		working.Wait()
	}
	stop(t, w)
	seen := map[Serial]bool{}
	var lost uint64
	for _, e := range whole(t, w.cfg.Dir) {
		switch {
		case e.Damage != nil:
			t.Errorf("%+v", *e.Damage)
		case e.Gap != nil:
			lost += e.Gap.Lost
		case seen[e.Exchange.Serial]:
			t.Fatalf("%s is there twice", e.Exchange.Serial)
		default:
			seen[e.Exchange.Serial] = true
		}
	}
	if n := uint64(len(seen)) + lost; n != callers*each*rounds {
		t.Errorf("%d lines and %d lost, of %d", len(seen), lost, callers*each*rounds)
	}
	if n := len(files(t, w.cfg.Dir)); n < 3 {
		t.Errorf("only %d files", n)
	}
}

// A recorded exchange costs no memory: the hot path of tens of thousands of commands a second.
func TestRecordDoesNotAllocate(t *testing.T) {
	w := journal(t, Config{}, nil)
	e := exchange(1)
	if n := testing.AllocsPerRun(1000, func() { w.Record(e) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	serials := NewSerials("posp-1", time.Now())
	if n := testing.AllocsPerRun(1000, func() { e.Serial = serials.Next() }); n != 0 {
		t.Errorf("%v allocations for a serial number", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	w, err := New(Config{Dir: filepath.Join(b.TempDir(), "journal"), Group: "online", Instance: "posp-1", KeepBytes: 2 * defaultFileBytes})
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	serials := NewSerials("posp-1", time.Now())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		e := exchange(1)
		for pb.Next() {
			e.Serial = serials.Next()
			w.Record(e)
		}
	})
	b.StopTimer()
	if err := w.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRecordOff(b *testing.B) {
	w, err := New(Config{Dir: b.TempDir(), Group: "online", Instance: "posp-1", Off: true})
	if err != nil {
		b.Fatal(err)
	}
	e := exchange(1)
	b.ReportAllocs()
	for b.Loop() {
		w.Record(e)
	}
}

func BenchmarkParse(b *testing.B) {
	e := exchange(1)
	text, _ := e.MarshalJSON()
	var p parser
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, _, err := p.parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
