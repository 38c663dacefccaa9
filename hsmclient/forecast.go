package hsmclient

import (
	"fmt"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

const (
	// forecastEvery and forecastSamples look at the last ten minutes: long enough to see growth behind the noise.
	forecastEvery   = 10 * time.Second
	forecastSamples = 60
	// forecastLeast is how many samples a forecast needs: one minute.
	forecastLeast = 6
	// forecastHorizon is how far it looks ahead: further is guessing.
	forecastHorizon = 24 * time.Hour
	// steadyTrend is a change of utilisation per minute that counts as none.
	steadyTrend = 0.0005
)

// poolFigures are the counts of a domain. Its lock guards them.
type poolFigures struct {
	commands uint64
	samples  [forecastSamples]float64 // of utilisation
	n        int                      // taken so far
	next     time.Time
	busiest  float64 // highest utilisation by places since the last sample
}

// sample takes a sample of utilisation where one is due. The caller holds mu.
func (p *pool) sample(now time.Time) {
	f := &p.figures
	if places := p.places(); places > 0 {
		f.busiest = max(f.busiest, float64(p.peak)/float64(places))
	}
	if now.Before(f.next) {
		return
	}
	f.next = now.Add(forecastEvery)
	_, utilisation := p.load(now)
	f.samples[f.n%forecastSamples] = utilisation
	f.n++
	f.busiest = 0
}

// load gives the speed of a domain and its utilisation: against the rated speed where that is known of all members that get traffic, else
// the most places taken since the last sample. The caller holds mu.
func (p *pool) load(now time.Time) (perSecond, utilisation float64) {
	rated, known := 0, true
	for _, n := range p.nodes {
		speed := n.figures.perSecond(now)
		perSecond += speed
		if n.serves() {
			rated += n.spec.Rated
			known = known && n.spec.Rated > 0
		}
	}
	if known && rated > 0 {
		return perSecond, perSecond / float64(rated)
	}
	if places := p.places(); places > 0 {
		utilisation = max(p.figures.busiest, float64(p.inFlight)/float64(places))
	}
	return perSecond, utilisation
}

// forecast extends the line through the samples. The caller holds mu.
func (p *pool) forecast() member.Forecast {
	f := &p.figures
	n := min(f.n, forecastSamples)
	if n < forecastLeast {
		return member.Forecast{Text: "not enough seen yet for a forecast"}
	}
	// Least squares over (i, sample i), the oldest first.
	var sx, sy, sxx, sxy float64
	for i := range n {
		x, y := float64(i), f.samples[(f.n-n+i)%forecastSamples]
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	slope := (float64(n)*sxy - sx*sy) / (float64(n)*sxx - sx*sx)
	last := (sy + slope*(float64(n)*float64(n-1)-sx)) / float64(n)
	trend := slope * float64(time.Minute/forecastEvery)
	result := member.Forecast{TrendPerMinute: trend}
	switch {
	case last >= 1:
		result.Text = "saturated now: add a member or take load away"
	case trend < -steadyTrend:
		result.Text = fmt.Sprintf("utilisation falls by %.1f percentage points a minute", -100*trend)
	case trend <= steadyTrend:
		result.Text = "utilisation is steady"
	default:
		left := time.Duration((1 - last) / trend * float64(time.Minute))
		if left > forecastHorizon {
			result.Text = "utilisation grows slowly; saturation is not in sight"
			break
		}
		result.SaturatedIn = member.Duration(left.Round(time.Second))
		result.Text = fmt.Sprintf("saturated in about %.0f minutes if utilisation goes on growing by %.1f percentage points a minute", left.Minutes(), 100*trend)
	}
	return result
}
