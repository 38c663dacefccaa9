package exchangelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxBuffered is how much waits for the disk at most, in each of two buffers: about 40,000 exchanges, nearly a second of the fastest
	// traffic measured. Memory is used only as far as a buffer was ever filled.
	maxBuffered = 8 << 20
	// gapRoom is room for the gaps at the end of a full buffer.
	gapRoom = len(reasons) * maxLine
	// writeSize is when a buffer is written at once: larger writes save no more time.
	writeSize = 256 << 10
	// writeDelay is how long a line waits for others otherwise: at most ten writes a second, and still soon enough for people who follow.
	writeDelay = 100 * time.Millisecond
	// retryDelay is how soon the files are tried again after an error.
	retryDelay = time.Second
	// houseTime is how often the age of files is looked at: a file may be written that much longer than Config.FileAge says.
	houseTime = time.Minute
)

// Writer writes a journal. All methods may be called from several goroutines.
type Writer struct {
	cfg     Config
	store   store
	stream  string
	metrics *metrics

	on      atomic.Bool
	skipped atomic.Uint64 // exchanges left out since the journal was switched off
	failing atomic.Bool   // the last file operation failed

	first, many chan struct{}   // wake run: a line waits; writeSize of them do. Capacity 1.
	flush       chan chan error // asks run to write now
	stop, done  chan struct{}   // closed by Stop; when run has ended

	mu      sync.Mutex // held for copying memory only
	active  []byte     // lines that nobody has taken yet
	full    bool       // something was left out since active was begun, so that nothing more may follow in it
	gaps    [len(reasons)]Gap
	offFrom time.Time // when the journal was switched off; zero: it is on
	started bool
	stopped bool

	out output // run's own
}

// New makes a journal; Start begins to write. What is recorded before Start waits in memory.
func New(cfg Config) (*Writer, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	w := &Writer{
		cfg: cfg, store: osStore{}, stream: streamName(cfg.Group, cfg.Instance), metrics: newMetrics(cfg.Group),
		first: make(chan struct{}, 1), many: make(chan struct{}, 1),
		flush: make(chan chan error), stop: make(chan struct{}), done: make(chan struct{}),
		active: make([]byte, 0, maxBuffered+gapRoom),
	}
	w.out.spare = make([]byte, 0, maxBuffered+gapRoom)
	w.on.Store(!cfg.Off)
	if cfg.Off {
		w.offFrom = time.Now()
	}
	return w, nil
}

// Start makes the directory and begins to write. It fails where the directory cannot be used at all; a full disk is waited for.
func (w *Writer) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("exchange journal: %w", err)
	}
	w.mu.Lock()
	again := w.started || w.stopped
	w.started = true
	w.mu.Unlock()
	if again {
		return errors.New("exchange journal: started twice, or after its stop: make a new one")
	}
	err := w.prepare()
	if err != nil {
		err = fmt.Errorf("exchange journal in %s (check the directory and its owner, or name another): %w", w.cfg.Dir, err)
	} else if err = w.metrics.register(w.cfg.Registerer); err != nil {
		w.endFile()
	}
	if err != nil {
		w.mu.Lock()
		w.stopped = true
		w.mu.Unlock()
		close(w.done)
		return err
	}
	w.metrics.on.Set(gaugeOf(w.on.Load()))
	go w.run()
	return nil
}

// Stop writes what waits and closes the file, as long as ctx lasts. Records that come later are dropped. It may be called again.
func (w *Writer) Stop(ctx context.Context) error {
	w.mu.Lock()
	if !w.stopped {
		w.stopped = true
		w.endOff(time.Now())
		close(w.stop)
		if !w.started {
			close(w.done)
		}
	}
	w.mu.Unlock()
	select {
	case <-w.done:
		return w.out.last
	case <-ctx.Done():
		return fmt.Errorf("exchange journal: the last lines are still being written to %s: %w", w.cfg.Dir, context.Cause(ctx))
	}
}

// Record takes an exchange. It never waits for a file and makes no garbage; what cannot be held is left out, counted, and said in the journal.
func (w *Writer) Record(e Exchange) {
	if !w.on.Load() {
		w.skipped.Add(1)
		w.metrics.lost[Off].Inc()
		return
	}
	var room [maxLine]byte
	line, unfitTexts := appendExchange(room[:0], &e)
	if unfitTexts > 0 {
		w.metrics.unfit.Add(float64(unfitTexts))
	}
	w.mu.Lock()
	before, stopped := len(w.active), w.stopped
	if !stopped {
		w.add(line)
	}
	after := len(w.active)
	w.mu.Unlock()
	if before == 0 {
		wake(w.first)
	}
	if before < writeSize && after >= writeSize {
		wake(w.many)
	}
}

// add puts a line behind the others, or counts it as left out.
func (w *Writer) add(line []byte) {
	if !w.full && len(w.active)+len(line) <= maxBuffered {
		w.active = append(w.active, line...)
		return
	}
	w.full = true
	why := gapOverload
	if w.failing.Load() {
		why = gapDisk
	}
	g := &w.gaps[why]
	if g.Lost == 0 {
		g.From = time.Now()
	}
	g.Lost++
	w.metrics.lost[reasons[why]].Inc()
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // It is awake already.
	}
}

// Switch turns recording on or off. What was left out meanwhile is said in the journal when it goes on.
func (w *Writer) Switch(on bool) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if on == w.on.Load() {
		return
	}
	w.on.Store(on)
	w.metrics.on.Set(gaugeOf(on))
	if !on {
		w.offFrom = now
		return
	}
	if w.endOff(now) && !w.full && len(w.active) <= maxBuffered {
		w.active = w.appendGaps(w.active, now)
	}
	wake(w.first)
}

// On says whether exchanges are recorded.
func (w *Writer) On() bool { return w.on.Load() }

// endOff turns the time switched off into a gap, if anything was left out in it. A record that saw the journal off and is counted only when
// it is on again is in the next such gap, or in the one that Stop makes.
func (w *Writer) endOff(now time.Time) bool {
	from := w.offFrom
	if from.IsZero() {
		from = now
	}
	w.offFrom = time.Time{}
	lost := w.skipped.Swap(0)
	if lost == 0 {
		return false
	}
	g := &w.gaps[gapOff]
	if g.Lost == 0 {
		g.From = from
	}
	g.Lost += lost
	return true
}

// appendGaps writes what was left out, and forgets it.
func (w *Writer) appendGaps(b []byte, now time.Time) []byte {
	for i := range w.gaps {
		g := &w.gaps[i]
		if g.Lost == 0 {
			continue
		}
		g.Group, g.To, g.Why = w.cfg.Group, now, reasons[i]
		b = appendGap(b, *g)
		*g = Gap{}
	}
	return b
}

// take gives what waits, with the gaps behind it, and begins the other buffer. The result is empty when nothing waits.
func (w *Writer) take(other []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.appendGaps(w.active, time.Now())
	w.active, w.full = other[:0], false
	return taken
}

// Flush waits until everything recorded before is in the files. It fails when they cannot be written.
func (w *Writer) Flush(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case w.flush <- reply:
	case <-w.done:
		return errors.New("exchange journal: stopped")
	case <-ctx.Done():
		return fmt.Errorf("exchange journal: flush: %w", context.Cause(ctx))
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return fmt.Errorf("exchange journal: flush: %w", context.Cause(ctx))
	}
}

func gaugeOf(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// linesIn counts lines.
func linesIn(b []byte) int { return bytes.Count(b, []byte{'\n'}) }
