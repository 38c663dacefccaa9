package drill

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

//go:embed report.html.tmpl
var pageSource string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"t": bilingual, "svg": bilingualSVG, "known": known, "ms": duration, "len": length, "num": number, "stamp": stamp, "sec": offset,
}).Parse(pageSource))

// WriteHTML writes the report as one page without scripts and without references to anything else, in English and Chinese.
func (r Report) WriteHTML(w io.Writer) error {
	var b bytes.Buffer
	if err := page.Execute(&b, viewOf(r)); err != nil {
		return fmt.Errorf("drill: page of report %s: %w", r.ID, err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// view is what the page shows.
type view struct {
	Report
	Tiles  []tile
	Charts charts
	States []member.State // of the legend
}

// tile is one of the large figures at the top.
type tile struct {
	Name, Help string
	Value      string
	Result     Result
}

func viewOf(r Report) view {
	v := view{Report: r, Charts: chartsOf(r), States: []member.State{
		member.Working, member.Standby, member.Suspect, member.Down, member.Fenced, member.Draining,
	}}
	results := map[string]Result{}
	for _, c := range r.Checks {
		results[c.Name] = c.Result
	}
	var since Counts
	for _, p := range r.Phases {
		if p.Name != phaseNames[phaseBefore] {
			since = since.plus(p.Traffic.Counts).plus(p.Own.Counts)
		}
	}
	v.Tiles = []tile{
		{"detection_time", "detection_help", duration(r.Times.DetectionMS), results["detection"]},
		{"decided_time", "decided_help", duration(r.Times.DecidedMS), results["taken_out"]},
		{"switch_time", "switch_help", duration(r.Times.SwitchMS), results["switch"]},
		{"failed_requests", "failed_help", strconv.FormatUint(since.Failed, 10), results["failed"]},
		{"retried_requests", "retried_help", strconv.FormatUint(since.Retried, 10), ""},
		{"recovery_time", "recovery_help", duration(r.Times.RecoveryMS), results["recovery"]},
		{"restored_time", "restored_help", duration(r.Times.RestoredMS), results["restored"]},
	}
	return v
}

// bilingual gives a word in both languages; the page shows one. An unknown word is shown as it is.
func bilingual(code any) template.HTML {
	w := wordsOf(code)
	return template.HTML(`<span class="en">` + w[0] + `</span><span class="zh" lang="zh-Hans">` + w[1] + `</span>`) //nolint:gosec // escaped by wordsOf
}

// bilingualSVG is bilingual inside of an SVG text.
func bilingualSVG(code any) template.HTML {
	w := wordsOf(code)
	return template.HTML(`<tspan class="en">` + w[0] + `</tspan><tspan class="zh" lang="zh-Hans">` + w[1] + `</tspan>`) //nolint:gosec // escaped by wordsOf
}

func wordsOf(code any) [2]string {
	key := fmt.Sprint(code)
	w, found := words[key]
	if !found {
		w = [2]string{key, key}
	}
	return [2]string{template.HTMLEscapeString(w[0]), template.HTMLEscapeString(w[1])}
}

func known(code any) bool {
	_, found := words[fmt.Sprint(code)]
	return found
}

// duration writes milliseconds for people.
func duration(v any) string {
	var value float64
	switch v := v.(type) {
	case *float64:
		if v == nil {
			return "–"
		}
		value = *v
	case float64:
		value = v
	case member.Duration:
		value = ms(v.Std())
	default:
		return fmt.Sprint(v)
	}
	switch {
	case value == 0:
		return "0 ms"
	case value < 10:
		return fmt.Sprintf("%.2f ms", value)
	case value < 1000:
		return fmt.Sprintf("%.0f ms", value)
	default:
		return fmt.Sprintf("%.2f s", value/1000)
	}
}

func length(p Phase) string { return duration(p.ToMS - p.FromMS) }

// number writes a figure of a check in its unit.
func number(unit string, v any) string {
	if unit == "ms" {
		return duration(v)
	}
	value, isFloat := v.(float64)
	if p, isPointer := v.(*float64); isPointer {
		if p == nil {
			return "–"
		}
		value, isFloat = *p, true
	}
	if !isFloat {
		return "–"
	}
	text := strconv.FormatFloat(value, 'f', -1, 64)
	if unit == "times" {
		return strconv.FormatFloat(value, 'f', 2, 64) + " ×"
	}
	return text
}

func stamp(t time.Time) string { return t.Format("2006-01-02 15:04:05 -07:00") }

// offset writes milliseconds since the start as seconds.
func offset(v float64) string { return strconv.FormatFloat(v/1000, 'f', 3, 64) }
