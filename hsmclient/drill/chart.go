package drill

import (
	"fmt"
	"math"
	"strings"

	"github.com/keyward/keyward/hsmclient/member"
)

// The charts share one time axis. All lengths are units of the SVG's view box, which the page scales to its width.
const (
	chartLeft, chartRight   = 64.0, 944.0
	chartTop, chartBottom   = 40.0, 220.0
	rowHeight, rowGap       = 24.0, 8.0
	shortestBand            = 1.5  // so that a state of milliseconds can be seen
	widthOfText             = 62.0 // a band narrower than this has no text; the time line has it
	markGap                 = 60.0 // room for the word of a mark; one that is closer goes to the next line
	markLines               = 3
	timeTicks, latencyFloor = 12, 0.05
)

// charts is the geometry of the three charts.
type charts struct {
	Left, Right, Top, Bottom, Width float64
	Spans                           []span // fault and return, shaded in every chart
	Ticks                           []axisTick
	Marks                           []mark
	LatencyTicks, RateTicks         []axisTick
	P50, P99                        []string // runs of points of lines
	Bars                            []bar
	Rows                            []row
	StatesHeight                    float64
}

type span struct {
	X, Width float64
	Kind     string
}

type axisTick struct {
	At   float64
	Text string
}

// mark is an upright line with a word.
type mark struct {
	X, TextY float64
	Code     string
	End      bool // the word stands on the left of its line
}

// bar is a slot of the request chart: stacked from the axis up.
type bar struct {
	X, Width, Y, Height float64
	Kind                string
}

// row is one member in the chart of states.
type row struct {
	Name  string
	Y     float64
	Bands []band
}

type band struct {
	X, Width, TextX float64
	State           string
	From            string
	Text            bool
}

// scale is the time axis.
type scale struct{ total float64 }

func (s scale) x(ms float64) float64 {
	return tenth(chartLeft + (chartRight-chartLeft)*min(max(ms/s.total, 0), 1))
}

func tenth(v float64) float64 { return math.Round(v*10) / 10 }

func chartsOf(r Report) charts {
	total := 1.0
	for _, p := range r.Phases {
		total = max(total, p.ToMS)
	}
	s := scale{total: total}
	c := charts{Left: chartLeft, Right: chartRight, Top: chartTop, Bottom: chartBottom, Width: chartRight - chartLeft}
	for _, p := range r.Phases {
		if p.Name == phaseNames[phaseDuring] || p.Name == phaseNames[phaseReturn] {
			c.Spans = append(c.Spans, span{X: s.x(p.FromMS), Width: tenth(s.x(p.ToMS) - s.x(p.FromMS)), Kind: p.Name})
		}
	}
	step := niceStep(total / 1000 / timeTicks)
	for v := 0.0; v*1000 <= total; v += step {
		c.Ticks = append(c.Ticks, axisTick{At: s.x(v * 1000), Text: plain(v)})
	}
	c.Marks = marksOf(r, s)
	c.latency(r, s)
	c.requests(r, s)
	c.states(r, s)
	return c
}

// niceStep is the next of 1, 2, 5 times a power of ten.
func niceStep(least float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(max(least, 1e-9))))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= least {
			return f * power
		}
	}
	return 10 * power
}

// marksOf puts the turning points of the drill over the latency chart.
func marksOf(r Report, s scale) []mark {
	var marks []mark
	var used [markLines]float64 // up to where the words of a line reach
	add := func(ms float64, code string) {
		m := mark{X: s.x(ms), Code: code}
		m.End = m.X > chartRight-markGap
		line := 0
		for line < markLines-1 && m.X < used[line] {
			line++
		}
		used[line] = m.X + markGap
		m.TextY = 10 + 11*float64(line)
		marks = append(marks, m)
	}
	seen := map[string]bool{}
	for _, e := range r.Events {
		switch {
		case e.Step == "fault" || e.Step == "clear" || e.Step == "restore":
			add(e.AtMS, "mark_"+e.Step)
		case e.Phase == member.After && e.Member == r.Request.Member && isState(e.To) && !healthy(member.State(e.To)) && !seen[e.To]:
			seen[e.To] = true
			add(e.AtMS, e.To)
		}
	}
	return marks
}

func isState(s string) bool {
	switch member.State(s) {
	case member.Working, member.Standby, member.Draining, member.Suspect, member.Down, member.Fenced:
		return true
	default:
		return false
	}
}

// latency draws the percentiles of the source that the verdict takes.
func (c *charts) latency(r Report, s scale) {
	of := func(p Point) (p50, p99 float64) {
		if r.JudgedBy == "own" {
			return p.OwnP50MS, p.OwnP99MS
		}
		return p.TrafficP50MS, p.TrafficP99MS
	}
	low, high := math.Inf(1), 0.0
	for _, p := range r.Points {
		if p50, p99 := of(p); p99 > 0 {
			low, high = min(low, max(p50, latencyFloor)), max(high, p99)
		}
	}
	if high == 0 {
		return
	}
	from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(max(high, latencyFloor*1.01)))
	if to <= from {
		to = from + 1
	}
	y := func(v float64) float64 {
		return tenth(chartBottom - (chartBottom-chartTop)*(min(max(math.Log10(v), from), to)-from)/(to-from))
	}
	for e := from; e <= to; e++ {
		c.LatencyTicks = append(c.LatencyTicks, axisTick{At: y(math.Pow(10, e)), Text: plain(math.Pow(10, e))})
	}
	var run50, run99 []string
	end := func() {
		if len(run50) > 0 {
			c.P50, c.P99 = append(c.P50, strings.Join(run50, " ")), append(c.P99, strings.Join(run99, " "))
		}
		run50, run99 = nil, nil
	}
	for _, p := range r.Points {
		p50, p99 := of(p)
		if p99 == 0 { // nobody was answered: the line has a hole
			end()
			continue
		}
		x := s.x(p.AtMS + r.SlotMS/2)
		run50, run99 = append(run50, pointText(x, y(p50))), append(run99, pointText(x, y(p99)))
	}
	end()
}

// pointText is a point of a line; a line of one point is drawn as a dot by its round cap.
func pointText(x, y float64) string { return fmt.Sprintf("%g,%g", x, y) }

// requests draws how many were served, retried and failed.
func (c *charts) requests(r Report, s scale) {
	if r.SlotMS <= 0 {
		return
	}
	most := 0.0
	for _, p := range r.Points {
		most = max(most, float64(p.Traffic.all()+p.Own.all())*1000/r.SlotMS)
	}
	if most == 0 {
		return
	}
	step := niceStep(most / 4)
	top := step * math.Ceil(most/step)
	height := func(n uint64) float64 { return (chartBottom - chartTop) * float64(n) * 1000 / r.SlotMS / top }
	for v := 0.0; v <= top; v += step {
		c.RateTicks = append(c.RateTicks, axisTick{At: tenth(chartBottom - (chartBottom-chartTop)*v/top), Text: plain(v)})
	}
	for _, p := range r.Points {
		x := s.x(p.AtMS)
		width := max(tenth(s.x(p.AtMS+r.SlotMS)-x), 0.5)
		y := chartBottom
		retried := p.Traffic.Retried + p.Own.Retried
		for _, part := range []struct {
			kind string
			n    uint64
		}{
			{"failed", p.Traffic.Failed + p.Own.Failed}, {"doubt", p.Traffic.InDoubt + p.Own.InDoubt}, {"retried", min(retried, p.Traffic.Served+p.Own.Served)},
			{"own", p.Own.Served - min(p.Own.Retried, p.Own.Served)}, {"traffic", p.Traffic.Served - min(p.Traffic.Retried, p.Traffic.Served)},
		} {
			if part.n == 0 {
				continue
			}
			h := height(part.n)
			y -= h
			c.Bars = append(c.Bars, bar{X: x, Width: width, Y: tenth(y), Height: tenth(h), Kind: part.kind})
		}
	}
}

// states draws a band for each state of each member.
func (c *charts) states(r Report, s scale) {
	for i, m := range r.Members {
		line := row{Name: m.Name, Y: 4 + float64(i)*(rowHeight+rowGap)}
		from, state := 0.0, string(m.State)
		end := func(to float64) {
			b := band{X: s.x(from), State: state, From: offset(from)}
			b.Width = max(tenth(s.x(to)-b.X), shortestBand)
			b.TextX, b.Text = tenth(b.X+b.Width/2), b.Width >= widthOfText
			line.Bands = append(line.Bands, b)
		}
		for _, e := range r.Events {
			if e.Phase != member.After || e.Member != m.Name || !isState(e.To) || e.To == state {
				continue
			}
			end(e.AtMS)
			from, state = e.AtMS, e.To
		}
		end(s.total)
		c.Rows = append(c.Rows, line)
	}
	c.StatesHeight = 4 + float64(len(r.Members))*(rowHeight+rowGap)
}
