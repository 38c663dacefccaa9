package hsmclient

import (
	"strings"
	"testing"
	"time"
)

// Speed, latency and counts of a member, as time goes on.
func TestFigures(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	f := figures{began: start}
	for i := range 20 { // 20 seconds at 50 a second, of which 2 percent take 100 ms
		for k := range 50 {
			took := time.Millisecond
			if k == 0 {
				took = 100 * time.Millisecond
			}
			f.add(&try{op: opMAC, talk: &talk{exchanges: 1, out: 10, in: 20, took: took}}, start.Add(time.Duration(i)*time.Second))
		}
	}
	now := start.Add(20 * time.Second)
	if got := f.perSecond(now); got != 50 {
		t.Errorf("%v a second", got)
	}
	if got := f.quantile(now, .5); got < .9 || got > 1.3 {
		t.Errorf("median %v ms", got)
	}
	if got := f.quantile(now, .99); got < 90 || got > 130 {
		t.Errorf("99th percentile %v ms", got)
	}
	if f.commands != 1000 || f.sent != 10_000 || f.read != 20_000 || f.byOperation[opMAC] != 1000 {
		t.Errorf("%+v", f)
	}
	now = now.Add(2 * time.Minute)
	if f.perSecond(now) != 0 || f.quantile(now, .99) != 0 {
		t.Error("the past is still there")
	}
}

// Every time falls below the upper bound of its class, and not far below.
func TestLatencyClasses(t *testing.T) {
	t.Parallel()
	last := 0
	for us := 1; us < 100_000_000; us += 1 + us/7 {
		class := classOf(time.Duration(us) * time.Microsecond)
		bound := upperBound(class) * 1000
		if class < last || float64(us) >= bound+1 || bound > float64(us)*1.3+4 {
			t.Fatalf("%d µs: class %d up to %v µs, after class %d", us, class, bound, last)
		}
		last = class
	}
	if classOf(100*time.Hour) != latencyClasses-1 {
		t.Error("the longest time has no class")
	}
}

// The forecast extends the line through the samples.
func TestForecast(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, step float64
		n           int
		text        string
		least, most time.Duration
	}{
		"too few":   {.5, .01, 3, "not enough", 0, 0},
		"steady":    {.5, 0, 60, "steady", 0, 0},
		"falling":   {.9, -.01, 60, "falls", 0, 0},
		"growing":   {.2, .005, 60, "saturated in about 17 minutes", 16 * time.Minute, 18 * time.Minute},
		"wrapped":   {.1, .005, 100, "saturated in about 1", 13 * time.Minute, 14 * time.Minute},
		"slowly":    {.1, .0001, 60, "not in sight", 0, 0},
		"saturated": {1, 0, 60, "saturated now", 0, 0},
	} {
		p := &pool{}
		for i := range c.n {
			p.figures.samples[p.figures.n%forecastSamples] = c.first + float64(i)*c.step
			p.figures.n++
		}
		f := p.forecast()
		if !strings.Contains(f.Text, c.text) || f.SaturatedIn.Std() < c.least || f.SaturatedIn.Std() > c.most {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// A driver may derive contexts from that of its conversation: they end with it, and with its caller.
func TestTalkIsAContext(t *testing.T) {
	t.Parallel()
	v := newTalk(t.Context(), opMAC)
	if v.Err() != nil {
		t.Fatal("ended before it began")
	}
	v.end(errCleared)
	v.end(errStopped)
	select {
	case <-v.Done():
	default:
		t.Error("not done")
	}
	if v.Err() != errCleared { //nolint:errorlint // It must be the very error.
		t.Errorf("got %v", v.Err())
	}
	v.giveBack()
	if again := newTalk(t.Context(), opMAC); again == v || again.Err() != nil {
		t.Error("a conversation whose context has ended was lent again")
	}
}
