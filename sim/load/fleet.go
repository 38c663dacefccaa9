package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// answerTime is how long an answer may take before the measurement is void: a terminal's patience.
	answerTime = 60 * time.Second
	// dialTime bounds the opening of one connection.
	dialTime = 5 * time.Second
)

// Fleet is terminals on persistent connections to one front end.
type Fleet struct {
	conns   []*conn
	members []*member
	wg      sync.WaitGroup
}

// member is a terminal with its line.
type member struct {
	*Terminal
	on      *conn
	answers chan []byte // capacity 1: one message is under way
}

// conn is one connection with the terminals that share it.
type conn struct {
	net     net.Conn
	write   sync.Mutex
	members map[string]*member
	failed  chan struct{} // closed when reading ended
	err     error
}

// NewFleet opens connections (at most one per terminal) to addr and shares the terminals out.
func NewFleet(ctx context.Context, addr string, connections int, terminals []*Terminal) (*Fleet, error) {
	if connections < 1 || connections > len(terminals) {
		return nil, fmt.Errorf("load: %d connections for %d terminals: want 1 to one per terminal", connections, len(terminals))
	}
	f := &Fleet{}
	dialer := net.Dialer{Timeout: dialTime}
	for range connections {
		nc, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("load: connect to the front end: %w", err)
		}
		f.conns = append(f.conns, &conn{net: nc, members: map[string]*member{}, failed: make(chan struct{})})
	}
	for i, t := range terminals {
		c := f.conns[i%connections]
		m := &member{Terminal: t, on: c, answers: make(chan []byte, 1)}
		c.members[t.ID()] = m
		f.members = append(f.members, m)
	}
	for _, c := range f.conns {
		f.wg.Go(c.read)
	}
	return f, nil
}

// Close hangs up and waits for the readers.
func (f *Fleet) Close() {
	for _, c := range f.conns {
		_ = c.net.Close() // nothing is under way any more
	}
	f.wg.Wait()
}

// read hands answers to their terminals until the connection ends.
func (c *conn) read() {
	defer close(c.failed)
	in := bufio.NewReader(c.net)
	var head [lengthSize]byte
	for {
		if _, c.err = io.ReadFull(in, head[:]); c.err != nil {
			return
		}
		answer := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, c.err = io.ReadFull(in, answer); c.err != nil {
			return
		}
		id, err := terminalOf(answer)
		m := c.members[id]
		if err != nil || m == nil {
			c.err = errors.Join(errors.New("load: an answer that belongs to no terminal"), err)
			return
		}
		select {
		case m.answers <- answer:
		default:
			c.err = errors.New("load: an answer that nobody waits for")
			return
		}
	}
}

// exchange sends a frame and waits for its answer.
func (m *member) exchange(frame []byte) ([]byte, error) {
	m.on.write.Lock()
	_, err := m.on.net.Write(frame)
	m.on.write.Unlock()
	if err != nil {
		return nil, fmt.Errorf("load: send: %w", err)
	}
	timer := time.NewTimer(answerTime)
	defer timer.Stop()
	select {
	case answer := <-m.answers:
		return answer, nil
	case <-m.on.failed:
		return nil, fmt.Errorf("load: connection ended: %w", m.on.err)
	case <-timer.C:
		return nil, errors.New("load: no answer within a terminal's patience")
	}
}

// Work is what a terminal does again and again.
type Work func(*member) error

// SignOn is one sign-on.
func SignOn(m *member) error {
	answer, err := m.exchange(m.Terminal.SignOn())
	if err != nil {
		return err
	}
	return m.SignedOn(answer)
}

// Purchase is one purchase with PIN, approved or an error.
func Purchase(m *member) error {
	answer, err := m.exchange(m.Terminal.Purchase())
	if err != nil {
		return err
	}
	return m.Paid(answer)
}

// Once has every terminal do something once, all at the same time.
func (f *Fleet) Once(work Work) error {
	errs := make([]error, len(f.members))
	var wg sync.WaitGroup
	for i, m := range f.members {
		wg.Go(func() { errs[i] = work(m) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Result is what a run measured.
type Result struct {
	Done    int           // finished within the run
	Took    time.Duration // length of the counted part
	Latency []time.Duration
	Failed  error // the first failure; a run with one measures nothing
}

// PerSecond is the throughput.
func (r Result) PerSecond() float64 { return float64(r.Done) / r.Took.Seconds() }

// Percentile is the latency that p (0 to 1) of all messages did not exceed; 0 without messages.
func (r Result) Percentile(p float64) time.Duration {
	if len(r.Latency) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.Latency))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// recorder gathers the results of many terminals.
type recorder struct {
	mu     sync.Mutex
	from   time.Time
	result Result
}

func (r *recorder) add(began, ended time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.result.Failed == nil {
		r.result.Failed = err
	}
	if err != nil || ended.Before(r.from) {
		return // a failure, or part of the warm-up
	}
	r.result.Done++
	r.result.Latency = append(r.result.Latency, ended.Sub(began))
}

func (r *recorder) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result.Failed != nil
}

// Closed runs a closed loop: every terminal works again as soon as it is answered. What ends within warmUp does not count.
func (f *Fleet) Closed(ctx context.Context, work Work, warmUp, length time.Duration) Result {
	begin := time.Now()
	end := begin.Add(warmUp + length)
	r := &recorder{from: begin.Add(warmUp), result: Result{Took: length}}
	var wg sync.WaitGroup
	for _, m := range f.members {
		wg.Go(func() {
			for ctx.Err() == nil && !r.failed() {
				began := time.Now()
				err := work(m)
				ended := time.Now()
				if ended.After(end) && err == nil {
					return
				}
				r.add(began, ended, err)
			}
		})
	}
	wg.Wait()
	return r.result
}

// Open runs an open loop: messages are due at a steady rate, whether or not the ones before are answered. A latency counts from
// the moment at which its message was due, so that waiting for a free terminal is not hidden.
func (f *Fleet) Open(ctx context.Context, work Work, rate float64, warmUp, length time.Duration) Result {
	begin := time.Now()
	r := &recorder{from: begin.Add(warmUp), result: Result{Took: length}}
	idle := make(chan *member, len(f.members))
	for _, m := range f.members {
		idle <- m
	}
	var wg sync.WaitGroup
	total := int(rate * (warmUp + length).Seconds())
	for i := range total {
		due := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		if ctx.Err() != nil || r.failed() {
			break
		}
		m := <-idle
		wg.Go(func() {
			err := work(m)
			r.add(due, time.Now(), err)
			idle <- m
		})
	}
	wg.Wait()
	return r.result
}
