package pool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/host/pool"
	"github.com/keyward/keyward/internal/txn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line does what a test says and notes what it was asked.
type line struct {
	name string
	do   func() host.Result // nil: answered

	mu     sync.Mutex
	away   bool
	refuse error // of Start
	asked  int
	life   string
}

func (l *line) Name() string    { return l.name }
func (l *line) Zone() host.Zone { return host.Zone{} }

func (l *line) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return fmt.Errorf("%s is away", l.name)
	}
	return nil
}

func (l *line) set(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

func (l *line) answer() host.Result {
	l.mu.Lock()
	l.asked++
	l.mu.Unlock()
	if l.do != nil {
		return l.do()
	}
	return host.Result{Outcome: txn.Answered, Reply: txn.Reply{Code: "00", RRN: l.name}}
}

func (l *line) Exchange(context.Context, host.Request) host.Result { return l.answer() }
func (l *line) Reverse(context.Context, host.Reversal) host.Result { return l.answer() }

func (l *line) Start(context.Context) error { l.life += "start "; return l.refuse }
func (l *line) Stop(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life += "stop "
	return nil
}

func lines(names string) (out []*line, as []pool.Line) {
	for name := range strings.FieldsSeq(names) {
		l := &line{name: name}
		out, as = append(out, l), append(as, l)
	}
	return out, as
}

func open(t *testing.T, cfg pool.Config) *pool.Pool {
	t.Helper()
	cfg.Name, cfg.Registerer = "bank", prometheus.NewPedanticRegistry()
	p, err := pool.New(cfg)
	if err == nil {
		err = p.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTurns: primary lines in turn, secondary ones in turn while no primary is ready.
func TestTurns(t *testing.T) {
	t.Parallel()
	first, primary := lines("a b c")
	second, secondary := lines("x y")
	p := open(t, pool.Config{Primary: primary, Secondary: secondary})
	run := func(n int) string {
		t.Helper()
		var out strings.Builder
		for range n {
			out.WriteString(p.Exchange(t.Context(), host.Request{}).Reply.RRN)
		}
		return out.String()
	}
	if got := run(6); got != "abcabc" {
		t.Errorf("in turn: %s", got)
	}
	first[1].set(true)
	if got := run(4); strings.Count(got, "a") != 2 || strings.Count(got, "c") != 2 {
		t.Errorf("without b: %s", got)
	}
	first[0].set(true)
	first[2].set(true)
	if got := run(4); strings.Count(got, "x") != 2 || strings.Count(got, "y") != 2 || p.Ready() != nil {
		t.Errorf("secondary: %s, %v", got, p.Ready())
	}
	first[2].set(false)
	if got := run(2); got != "cc" {
		t.Errorf("back on a primary: %s", got)
	}
	for _, l := range append(first, second...) {
		l.set(true)
	}
	if r := p.Exchange(t.Context(), host.Request{}); r.Outcome != txn.NotSent || r.Err == nil || r.Err.Error() != "a is away" || p.Ready() == nil {
		t.Errorf("%+v", r)
	}
	if err := p.Stop(t.Context()); err != nil || first[0].life != "start stop " || second[1].life != "start stop " {
		t.Errorf("%v, %q", err, first[0].life)
	}
}

// TestChange: only what was not sent because its line ended goes to another line.
func TestChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		outcome txn.Outcome
		ends    bool
		again   bool
	}{
		"line ended, nothing sent": {txn.NotSent, true, true},
		"line ended in between":    {txn.Unknown, true, false},
		"no answer":                {txn.Unknown, false, false},
		"fault of the message":     {txn.NotSent, false, false},
	} {
		all, as := lines("a b")
		all[0].do = func() host.Result {
			all[0].set(c.ends)
			return host.Result{Outcome: c.outcome, Err: errors.New("x")}
		}
		p := open(t, pool.Config{Primary: as[:1], Secondary: as[1:]})
		ask := map[string]func() host.Result{
			"exchange": func() host.Result { return p.Exchange(t.Context(), host.Request{}) },
			"reverse":  func() host.Result { return p.Reverse(t.Context(), host.Reversal{}) },
		}
		for what, do := range ask {
			all[0].set(false)
			all[1].asked = 0
			r := do()
			if again := all[1].asked == 1; again != c.again || again != (r.Outcome == txn.Answered) || !again && r.Outcome != c.outcome {
				t.Errorf("%s, %s: %+v", name, what, r)
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		all[0].set(false)
		if r := p.Exchange(ended, host.Request{}); r.Outcome != c.outcome {
			t.Errorf("%s: with no time left: %+v", name, r)
		}
	}
}

// TestBound: what is too much is refused at once, and reversals are not.
func TestBound(t *testing.T) {
	t.Parallel()
	all, as := lines("a")
	begun, end := make(chan bool, 2), make(chan bool)
	all[0].do = func() host.Result { begun <- true; <-end; return host.Result{Outcome: txn.Answered} }
	p := open(t, pool.Config{Primary: as, MaxInFlight: 2})
	var under sync.WaitGroup
	for range 2 {
		under.Go(func() { p.Exchange(t.Context(), host.Request{}) })
		<-begun
	}
	if r := p.Exchange(t.Context(), host.Request{}); r.Outcome != txn.NotSent || !strings.Contains(r.Err.Error(), "2 exchanges are under way") {
		t.Errorf("%+v", r)
	}
	under.Go(func() { p.Reverse(t.Context(), host.Reversal{}) })
	<-begun
	close(end)
	under.Wait()
	if r := p.Exchange(t.Context(), host.Request{}); r.Outcome != txn.Answered {
		t.Errorf("%+v", r)
	}
}

func TestRefusedConfigurations(t *testing.T) {
	t.Parallel()
	_, as := lines("a")
	for _, cfg := range []pool.Config{{Name: "x"}, {Name: "x", Secondary: as}, {Primary: as}, {Name: "x", Primary: as, MaxInFlight: -1}} {
		if _, err := pool.New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	p, err := pool.New(pool.Config{Name: "x", Primary: as, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.New(pool.Config{Name: "x", Primary: as, Registerer: reg}); err == nil {
		t.Error("a name twice")
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := pool.New(pool.Config{Name: "x", Primary: as, Registerer: reg}); err != nil {
		t.Error("the names of the metrics are not given back: ", err)
	}
	// A line that cannot begin stops those that have begun.
	all, as := lines("a b")
	all[1].refuse = errors.New("no")
	if p, err = pool.New(pool.Config{Name: "x", Primary: as}); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err == nil || all[0].life != "start stop " {
		t.Errorf("%v, %q", err, all[0].life)
	}
}
