package exchangelog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"time"
)

const (
	// followEvery is how often a reader that follows looks for more; people do not see a fifth of a second.
	followEvery = 200 * time.Millisecond
	// checkEvery is after how many lines that do not fit a reader looks whether it is still wanted.
	checkEvery = 4096
)

// Entry is what a reader gives: an exchange, or a gap, or damage.
type Entry struct {
	Exchange Exchange // set when Gap and Damage are nil
	Gap      *Gap
	Damage   *Damage
}

// Damage is a part of a file that is no journal.
type Damage struct {
	File   string // its name in the directory
	Offset int64
	Bytes  int64
	Lines  int
	// Torn says that the file ends with an unfinished line: the process was killed, or the disk failed, while it was written.
	Torn bool
}

// Read reads the journals in a directory: file after file by time, those of several groups and instances merged by the time of their
// exchanges. Exchanges are chosen by the filter, gaps by its times, damage is always given and then skipped. With follow it goes on with
// what is written from then on, over changes of file, until ctx ends; else it ends with the last whole line. An error ends it: the
// directory or a file cannot be read. Memory is bounded whatever the files hold. Files that are removed while it reads are passed over.
func Read(ctx context.Context, dir string, filter Filter, follow bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r := reader{ctx: ctx, dir: dir, filter: filter}
		defer r.close()
		for {
			err := r.look()
			if err == nil {
				err = r.drain(yield)
			}
			if errors.Is(err, errEnough) || follow && ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("read the exchange journal in %s: %w", dir, err))
				return
			}
			if !follow || !pause(ctx) {
				return
			}
		}
	}
}

// errEnough says that the caller wants no more.
var errEnough = errors.New("enough")

// pause waits until the next look; false: ctx has ended.
func pause(ctx context.Context) bool {
	t := time.NewTimer(followEvery)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type reader struct {
	ctx     context.Context //nolint:containedctx // The reader lives inside one call of Read.
	dir     string
	filter  Filter
	parser  parser
	streams []*stream
}

// stream is the journal of one group of one instance.
type stream struct {
	name   string
	newest string        // the name of the last file that look has found
	files  []journalFile // being read, and to be read
	lines  lines
	damage *Damage // goes on as long as no good line comes
	held   []Entry // what comes behind damage; none or one
	head   Entry   // the next to give, if ready
	ready  bool
}

func (r *reader) close() {
	for _, s := range r.streams {
		s.lines.close()
	}
}

// look finds new files.
func (r *reader) look() error {
	files, err := listNames(r.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		s := r.stream(f.stream)
		if f.name > s.newest {
			s.newest = f.name
			s.files = append(s.files, f)
		}
	}
	return nil
}

func (r *reader) stream(name string) *stream {
	for _, s := range r.streams {
		if s.name == name {
			return s
		}
	}
	s := &stream{name: name}
	r.streams = append(r.streams, s)
	return s
}

// drain gives what is there, the earliest of all streams first.
func (r *reader) drain(yield func(Entry, error) bool) error {
	for r.ctx.Err() == nil {
		var first *stream
		for _, s := range r.streams {
			if !s.ready {
				var err error
				if s.head, s.ready, err = r.next(s); err != nil {
					return err
				}
			}
			if s.ready && (first == nil || s.head.when().Before(first.head.when())) {
				first = s
			}
		}
		if first == nil {
			return nil
		}
		first.ready = false
		if !yield(first.head, nil) {
			return errEnough
		}
	}
	return context.Cause(r.ctx)
}

// when orders the streams; damage has no time and comes at once.
func (e *Entry) when() time.Time {
	switch {
	case e.Damage != nil:
		return time.Time{}
	case e.Gap != nil:
		return e.Gap.To
	}
	return e.Exchange.At
}

// next gives the next entry of a stream that fits, and false when there is none now.
func (r *reader) next(s *stream) (Entry, bool, error) {
	if len(s.held) > 0 {
		e := s.held[0]
		s.held = s.held[:0]
		return e, true, nil
	}
	for n := 1; ; n++ {
		if n%checkEvery == 0 && r.ctx.Err() != nil {
			return Entry{}, false, context.Cause(r.ctx)
		}
		if s.lines.file == nil {
			opened, err := r.open(s)
			if err != nil || !opened {
				return Entry{}, false, err
			}
		}
		l, ok, err := s.lines.next()
		if err != nil {
			return Entry{}, false, err
		}
		if !ok {
			if e, ok := r.atEnd(s); ok {
				return e, true, nil
			}
			if s.lines.file != nil {
				return Entry{}, false, nil
			}
			continue
		}
		exchange, gap, err := r.parser.parse(l.text)
		if err != nil {
			s.damaged(l)
			continue
		}
		e, fits := r.choose(exchange, gap)
		if damage, was := s.endDamage(); was {
			if fits {
				s.held = append(s.held, e)
			}
			return damage, true, nil
		}
		if fits {
			return e, true, nil
		}
	}
}

// choose makes the entry of a line and says whether it fits.
func (r *reader) choose(exchange Exchange, gap Gap) (Entry, bool) {
	if gap.Why != "" {
		return Entry{Gap: &gap}, r.filter.matchGap(&gap)
	}
	return Entry{Exchange: exchange}, r.filter.Match(&exchange)
}

// open begins with the next file that can hold something that fits.
func (r *reader) open(s *stream) (bool, error) {
	for len(s.files) > 0 {
		f := s.files[0]
		if r.filter.later(f.begun) {
			s.files = nil
			return false, nil
		}
		if len(s.files) > 1 && r.filter.ended(s.files[1].begun) {
			s.files = s.files[1:]
			continue
		}
		err := s.lines.open(filepath.Join(r.dir, f.name), f.name)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		s.files = s.files[1:]
	}
	return false, nil
}

// atEnd is called when a file has no more whole lines. A file with a successor is complete, because a writer ends one before it begins
// the next: what stands behind its last line feed is torn. The last file may still grow.
func (r *reader) atEnd(s *stream) (Entry, bool) {
	if len(s.files) > 1 {
		if l, torn := s.lines.rest(); torn {
			s.damaged(l)
			s.damage.Torn = true
		}
		s.lines.close()
		s.files = s.files[1:]
	}
	return s.endDamage()
}

// damaged adds a line to the damage.
func (s *stream) damaged(l line) {
	if s.damage == nil {
		s.damage = &Damage{File: s.lines.name, Offset: l.offset}
	}
	s.damage.Bytes += l.bytes
	s.damage.Lines++
}

func (s *stream) endDamage() (Entry, bool) {
	e := Entry{Damage: s.damage}
	s.damage = nil
	return e, e.Damage != nil
}
