package drill

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at the change, then run the test with -update", name)
	}
}

// The drills of the golden files, in the time of a bubble: the same to the microsecond on every machine.
func TestReportsLookRight(t *testing.T) {
	for name, s := range map[string]struct {
		change  func(*fake)
		req     Request
		traffic int
		act     func(*testing.T, *Runner, string)
	}{
		"passed": {req: Request{Kind: member.FaultBlackHole}, traffic: 200},
		"failed": {req: Request{Kind: member.FaultWrongLMK}, traffic: 40, change: func(f *fake) {
			f.decideAfter, f.backAfter = 3003*time.Millisecond, 35003*time.Millisecond
			began := time.Now()
			f.failing = func(now time.Time) bool {
				d := now.Sub(began)
				return d > 5900*time.Millisecond && d <= 6300*time.Millisecond
			}
		}},
		"stopped": {req: Request{Kind: member.FaultSlow}, act: func(t *testing.T, r *Runner, id string) {
			time.Sleep(8003 * time.Millisecond)
			if _, err := r.Stop(member.Act{By: "chen", Reason: `<b>"enough"</b>`}, id); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(hsm("hsm-1", member.Working), hsm("hsm-2", member.Working), hsm("hsm-3", member.Standby))
				if s.change != nil {
					s.change(f)
				}
				if s.traffic > 0 {
					defer f.run(s.traffic)()
				}
				r := newRunner(t, f, "")
				// Nothing happens at the same instant as a tick of the load, which would make the order a matter of chance.
				s.req.Member, s.req.Before, s.req.During = "hsm-1", member.Duration(4990*time.Millisecond), member.Duration(14990*time.Millisecond)
				id := start(t, r, member.Act{By: "li.wei", Reason: "quarterly drill"}, s.req).ID
				if s.act != nil {
					s.act(t, r, id)
				}
				rep := over(t, r, id)
				doc, err := json.MarshalIndent(rep, "", " ")
				if err != nil {
					t.Fatal(err)
				}
				golden(t, name+".json", append(doc, '\n'))
				var page bytes.Buffer
				if err := rep.WriteHTML(&page); err != nil {
					t.Fatal(err)
				}
				golden(t, name+".html", page.Bytes())
				selfContained(t, page.Bytes())
			})
		})
	}
}

// selfContained checks that the page needs nothing else, runs nothing, and that its charts are well formed.
func selfContained(t *testing.T, page []byte) {
	t.Helper()
	text := string(page)
	for _, bad := range []string{"<script", "http:", "https:", "url(", "@import", "src=", "href=", "<b>&", `<b>"enough`, "ZgotmplZ", "NaN", "Inf"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(text, -1) {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("a chart is not well formed: %v", err)
				break
			}
		}
	}
}

// Every word that the page looks up by name has both languages, and every code of a report has a word.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, m := range regexp.MustCompile(`\{\{(?:t|svg) "([a-z0-9_]+)"\}\}`).FindAllStringSubmatch(pageSource, -1) {
		if !known(m[1]) {
			t.Errorf("no words for %q", m[1])
		}
	}
	for code, w := range words {
		if w[0] == "" || w[1] == "" {
			t.Errorf("%s lacks a language", code)
		}
	}
	for _, kind := range faultKinds {
		if !known(kind) {
			t.Errorf("no words for %s", kind)
		}
	}
	for _, phase := range phaseNames {
		if !known("phase_" + phase) {
			t.Errorf("no words for phase %s", phase)
		}
	}
	for _, v := range viewOf(Report{}).Tiles {
		if !known(v.Name) || !known(v.Help) {
			t.Errorf("no words for %s, %s", v.Name, v.Help)
		}
	}
}

// A report of anything that the JSON of another version may hold makes a page.
func TestOddReports(t *testing.T) {
	t.Parallel()
	for _, rep := range []Report{
		{}, {Points: []Point{{}, {AtMS: 100}}, SlotMS: 100}, {Checks: []Check{{Name: "new", Unit: "new"}}},
		{Phases: []Phase{{Name: "new", ToMS: -5}}, Events: []Event{{AtMS: 1e12, Phase: member.After, To: "working"}}, Members: []Seen{{}}},
		{SlotMS: 100, Points: []Point{{Traffic: Counts{Served: 1, Retried: 5}, TrafficP50MS: 1e-9, TrafficP99MS: 1e-9}}},
	} {
		var page bytes.Buffer
		if err := rep.WriteHTML(&page); err != nil {
			t.Error(err)
		}
		selfContained(t, page.Bytes())
	}
}
