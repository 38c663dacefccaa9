package exchangelog

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// put writes a file of a journal as a writer would have.
func put(t *testing.T, dir string, begun time.Time, stream string, parts ...any) string {
	t.Helper()
	var b []byte
	for _, part := range parts {
		switch p := part.(type) {
		case Exchange:
			b, _ = appendExchange(b, &p)
		case Gap:
			b = appendGap(b, p)
		case string:
			b = append(b, p...)
		}
	}
	path := filepath.Join(dir, fileName(begun, stream))
	if err := os.WriteFile(path, b, fileMode); err != nil {
		t.Fatal(err)
	}
	return path
}

// read gives the counters of what fits.
func read(t *testing.T, dir string, f Filter) string {
	t.Helper()
	var list []Entry
	for e, err := range Read(t.Context(), dir, f, false) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return counts(list)
}

func TestFilter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	change := func(n uint64, to func(*Exchange)) Exchange {
		e := exchange(n)
		e.At = day.Add(time.Duration(n) * time.Minute)
		to(&e)
		return e
	}
	list := []any{
		change(1, func(*Exchange) {}),
		change(2, func(e *Exchange) { e.Member = "hsm2" }),
		change(3, func(e *Exchange) { e.Command, e.For = "NC", "probe" }),
		change(4, func(e *Exchange) { e.Result = "15" }),
		change(5, func(e *Exchange) { e.Result, e.Took = NoAnswer, 3*time.Second }),
		change(6, func(e *Exchange) { e.Command, e.Result = "C_Encrypt", "CKR_OK" }),
	}
	// One file each, in hours that the times of the exchanges agree with.
	for i, e := range list {
		put(t, dir, day.Add(time.Duration(i)*time.Minute), "online@posp-1", e)
	}
	put(t, dir, day.Add(9*time.Minute), "online@posp-1", Gap{Group: "online", From: day.Add(7 * time.Minute), To: day.Add(9 * time.Minute), Lost: 5, Why: Disk})
	for _, c := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "1-6 gap disk 5"},
		{Filter{Members: []string{"hsm2", "hsm3"}}, "2-2 gap disk 5"},
		{Filter{Commands: []string{"NC"}}, "3-3 gap disk 5"},
		{Filter{For: []string{"probe"}}, "3-3 gap disk 5"},
		{Filter{Results: []string{"15", NoAnswer}}, "4-5 gap disk 5"},
		{Filter{Failed: true}, "4-5 gap disk 5"},
		{Filter{AtLeast: time.Second}, "5-5 gap disk 5"},
		{Filter{Serial: exchange(6).Serial}, "6-6 gap disk 5"},
		{Filter{From: day.Add(2 * time.Minute), To: day.Add(4 * time.Minute)}, "2-3"},
		{Filter{From: day.Add(8 * time.Minute), To: day.Add(8*time.Minute + 1)}, "gap disk 5"},
		{Filter{From: day.Add(10 * time.Minute)}, ""},
		{Filter{To: day}, ""},
		{Filter{Members: []string{"hsm1"}, Failed: true, AtLeast: time.Second, Results: []string{NoAnswer}}, "5-5 gap disk 5"},
	} {
		if got := read(t, dir, c.f); got != c.want {
			t.Errorf("%+v gives %q, want %q", c.f, got, c.want)
		}
	}
}

// Files that cannot hold anything that fits are not opened: damage in them does not show. One more on each side is, for clocks that were set.
func TestTimesOfFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range uint64(10) {
		e := exchange(i + 1)
		e.At = day.Add(time.Duration(i) * 24 * time.Hour)
		put(t, dir, e.At, "online@posp-1", "damage\n", e)
	}
	f := Filter{From: day.Add(4 * 24 * time.Hour), To: day.Add(6 * 24 * time.Hour)}
	if got, want := read(t, dir, f), "damage 1 false damage 1 false 5-5 damage 1 false 6-6 damage 1 false"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMergedByTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, day, "online@posp-1", exchange(1), exchange(4), exchange(5))
	put(t, dir, day.Add(time.Second), "online@posp-1", exchange(8))
	put(t, dir, day.Add(time.Millisecond), "issuing@posp-1", exchange(2), exchange(3), exchange(7))
	put(t, dir, day.Add(6*time.Millisecond), "online@posp-2", exchange(6), exchange(9))
	if err := os.Mkdir(filepath.Join(dir, fileName(day, "a@directory")), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, day, "x@y") // empty
	for _, name := range []string{"notes.txt", "20260301T080000.000000Z.jsonl", "yesterday_online@posp-1.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("not ours\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, dir, Filter{}); got != "1-9" {
		t.Errorf("%q", got)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := exchange(3)
	text, _ := e.MarshalJSON()
	put(t, dir, day, "online@posp-1", exchange(1), "garbage\n\n{}\n", exchange(2), string(text[:100])) // torn, then a restart
	put(t, dir, day.Add(time.Second), "online@posp-1", strings.Repeat("x", 3*readSize)+"\n", exchange(4), string(bytes.Repeat([]byte{0}, 4096)))
	put(t, dir, day.Add(2*time.Second), "online@posp-1", exchange(5), "bad\n", exchange(6), string(text[:100])) // still being written
	if got, want := read(t, dir, Filter{}), "1-1 damage 3 false 2-2 damage 1 true damage 1 false 4-4 damage 1 true 5-5 damage 1 false 6-6"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	var all []Damage
	for e, err := range Read(t.Context(), dir, Filter{Members: []string{"none"}}, false) {
		if err != nil || e.Damage == nil {
			t.Fatalf("%+v %v", e, err)
		}
		all = append(all, *e.Damage)
	}
	first, _ := exchange(1).MarshalJSON()
	line := int64(len(first)) + 1
	want := []Damage{
		{fileName(day, "online@posp-1"), line, 12, 3, false}, {fileName(day, "online@posp-1"), 2*line + 12, 100, 1, true},
		{fileName(day.Add(time.Second), "online@posp-1"), 0, 3*readSize + 1, 1, false}, {fileName(day.Add(time.Second), "online@posp-1"), 3*readSize + 1 + line, 4096, 1, true},
		{fileName(day.Add(2*time.Second), "online@posp-1"), line, 4, 1, false},
	}
	if len(all) != len(want) {
		t.Fatalf("%+v", all)
	}
	for i := range want {
		if all[i] != want[i] {
			t.Errorf("%+v, want %+v", all[i], want[i])
		}
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	for _, err := range Read(t.Context(), filepath.Join(t.TempDir(), "none"), Filter{}, false) {
		if err == nil || !strings.Contains(err.Error(), "none") {
			t.Error(err)
		}
	}
	dir := t.TempDir()
	put(t, dir, day, "online@posp-1", exchange(1), exchange(2))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range Read(ctx, dir, Filter{}, false) {
		n++
		cancel()
		if n == 2 && err == nil {
			t.Error("an unfinished reading ends as if it were finished")
		}
	}
	if n != 2 {
		t.Errorf("%d entries", n)
	}
	for range Read(t.Context(), dir, Filter{}, false) {
		break // closes its file, which goleak cannot see but -race and the operating system would
	}
}

// following reads in the background; what it gives arrives on the channel, which is closed at its end.
func following(ctx context.Context, t *testing.T, dir string, f Filter) <-chan Entry {
	out := make(chan Entry)
	go func() {
		defer close(out)
		for e, err := range Read(ctx, dir, f, true) {
			if err != nil {
				t.Errorf("follow: %v", err)
				return
			}
			out <- e
		}
	}()
	return out
}

// A reader follows a writer over many changes of file and over the removal of files that it has read, and misses nothing.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := journal(t, Config{FileBytes: minFileBytes, KeepFiles: 3}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := following(ctx, t, w.cfg.Dir, Filter{Members: []string{"hsm1"}})
		other := exchange(1)
		other.Member = "hsm2"
		next := uint64(1)
		for round := range uint64(40) {
			last := next + 40 + round
			for n := next; n <= last; n++ {
				w.Record(exchange(n))
				w.Record(other)
			}
			for ; next <= last; next++ {
				e := <-got
				if e.Gap != nil || e.Damage != nil || e.Exchange.Serial.count != next {
					t.Fatalf("%+v comes instead of %d", e, next)
				}
			}
		}
		if n := len(files(t, w.cfg.Dir)); n != 3 {
			t.Errorf("%d files", n)
		}
		w.Switch(false)
		record(w, 1, 5)
		w.Switch(true)
		if e := <-got; e.Gap == nil || e.Gap.Lost != 5 {
			t.Errorf("%+v", e)
		}
		cancel()
		if e, more := <-got; more {
			t.Errorf("%+v after the end", e)
		}
	})
}

// What is written in pieces arrives when its end has come, also over a restart that leaves a torn line.
func TestFollowTornLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := following(ctx, t, dir, Filter{})
		synctest.Wait() // nothing is there yet
		text, _ := exchange(1).MarshalJSON()
		path := put(t, dir, day, "online@posp-1", string(text[:50]))
		time.Sleep(2 * followEvery)
		synctest.Wait()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(append(text[50:], "\n{\"at\""...)); err != nil {
			t.Fatal(err)
		}
		if e := <-got; e.Exchange.Serial.count != 1 {
			t.Errorf("%+v", e)
		}
		time.Sleep(2 * followEvery)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		put(t, dir, day.Add(time.Second), "online@posp-1", exchange(2))
		if e := <-got; e.Damage == nil || !e.Damage.Torn || e.Damage.Bytes != 5 {
			t.Errorf("%+v", e)
		}
		if e := <-got; e.Exchange.Serial.count != 2 {
			t.Errorf("%+v", e)
		}
		put(t, dir, day, "issuing@posp-1", exchange(3)) // a new stream, with an earlier time
		if e := <-got; e.Exchange.Serial.count != 3 {
			t.Errorf("%+v", e)
		}
		cancel()
		if _, more := <-got; more {
			t.Error("goes on")
		}
	})
}

// FuzzRead: whatever a file holds, reading ends, and every byte is either a line or damage.
func FuzzRead(f *testing.F) {
	good, _ := exchange(1).MarshalJSON()
	f.Add(append(good, "\nrubbish\n\n"...), true)
	f.Add(bytes.Repeat([]byte("x"), readSize+10), false)
	f.Fuzz(func(t *testing.T, content []byte, followed bool) {
		dir := t.TempDir()
		put(t, dir, day, "a@b", string(content))
		if followed {
			put(t, dir, day.Add(time.Second), "a@b")
		}
		var bytes int64
		var p parser
		for e, err := range Read(t.Context(), dir, Filter{}, false) {
			if err != nil {
				t.Fatal(err)
			}
			var text []byte
			switch {
			case e.Damage != nil:
				bytes += e.Damage.Bytes
				continue
			case e.Gap != nil:
				text, _ = e.Gap.MarshalJSON()
			default:
				text, _ = e.Exchange.MarshalJSON()
			}
			if _, _, err := p.parse(text); err != nil {
				t.Fatalf("%s", text)
			}
			bytes += int64(len(text)) + 1
		}
		want := len(content)
		if !followed {
			want = len(wholeLines(content))
		}
		if bytes != int64(want) {
			t.Fatalf("%d bytes accounted for, of %d", bytes, want)
		}
	})
}
