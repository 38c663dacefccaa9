package main

import (
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmlist"
	"github.com/keyward/keyward/internal/hsmops"
)

// TestPrintable: what others wrote moves no cursor, colours nothing and forges no line.
func TestPrintable(t *testing.T) {
	t.Parallel()
	const bad = "one\n2026-01-01 00:00:00.000  after   hsm2\x1b[31m\u202e 双人　复核"
	var out strings.Builder
	table(&out, false, texts("REASON", "BY"), [][]cell{{text(bad), hued(bad, red)}})
	c := &hsmClient{output: "table"}
	if err := c.printSwitch(&out, hsmlist.Entry{Switch: member.Switch{What: "state", By: "li", Reason: bad}}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.ContainsAny(got, "\x1b\u202e") || strings.Count(got, "\n") != 3 || strings.Count(got, "双人　复核") != 3 {
		t.Errorf("%q", got)
	}
}

// TestForecastAlarm: saturation within the hour is an alarm, one further away a remark, and none is said of a domain without places.
func TestForecastAlarm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in            time.Duration
		places        int
		alarm, remark bool
	}{
		"near":      {20 * time.Minute, 96, true, false},
		"far":       {6 * time.Hour, 96, false, true},
		"none left": {6 * time.Hour, 0, false, false},
	} {
		d := member.DomainStatus{Domain: "dev", Places: c.places, Forecast: member.Forecast{SaturatedIn: member.Duration(c.in), Text: "saturated in about"}}
		o := hsmops.Overview{Engine: member.Engine{Running: true, Monitoring: true, Domains: []member.DomainStatus{d}}}
		if got := strings.Contains(strings.Join(troubles(o), "\n"), "saturated"); got != c.alarm {
			t.Errorf("%s: alarm %v", name, got)
		}
		if got := strings.Contains(domainLine(d), "saturated"); got != c.remark {
			t.Errorf("%s: remark %v", name, got)
		}
	}
}
