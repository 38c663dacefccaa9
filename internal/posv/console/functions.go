package console

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// langCookie remembers the language that a person chose.
const langCookie = "keyward_lang"

// language is the one that the link, the cookie or the browser asks for, in this order; English when none does. A choice by link
// is kept in a cookie.
func language(w http.ResponseWriter, r *http.Request) string {
	if lang := r.URL.Query().Get("lang"); texts[lang] != nil {
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure follows the listener: over a plain one browsers drop such a cookie. It holds a language.
			Name: langCookie, Value: lang, Path: "/", MaxAge: int((365 * 24 * time.Hour).Seconds()), HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
		})
		return lang
	}
	if c, err := r.Cookie(langCookie); err == nil && texts[c.Value] != nil {
		return c.Value
	}
	return accepted(r.Header.Get("Accept-Language"))
}

// accepted is the best of our languages in an Accept-Language header (RFC 9110 §12.5.4).
func accepted(header string) string {
	best, quality := "en", 0.0
	for _, part := range strings.Split(header, ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		q := 1.0
		if value, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(value, 64); err != nil {
				q = 0
			}
		}
		if texts[primary] != nil && q > quality {
			best, quality = primary, q
		}
	}
	return best
}

// functions are those of the templates in one language.
func (c *Console) functions(lang string) template.FuncMap {
	t := func(key string, args ...any) string { return text(lang, key, args...) }
	return template.FuncMap{
		"t":      t,
		"word":   func(group string, value any) string { return word(lang, group, value) },
		"date":   func(v any) string { return c.date(v, "2006-01-02 15:04:05") },
		"hour":   func(v time.Time) string { return v.In(c.opt.Location).Format("15:04") },
		"iso":    func(v any) string { return c.date(v, time.RFC3339) },
		"ago":    func(v any) string { return ago(lang, c.opt.Now(), v) },
		"short":  short,
		"detail": func(raw json.RawMessage) string { return detail(lang, raw) },
		"choices": func(group string) []string {
			if group == "keys" {
				return keyChoices
			}
			return stateChoices
		},
	}
}

var stateChoices = []string{"active", "suspended", "lost", "retired"}

// word is the text of a value of a fixed list; a value that has none is shown as it is.
func word(lang, group string, value any) string {
	var v string
	switch x := value.(type) {
	case string:
		v = x
	case interface{ String() string }:
		v = x.String()
	default:
		b, _ := json.Marshal(value) // texts of named types
		v = strings.Trim(string(b), `"`)
	}
	if s, ok := texts[lang][group+"."+v]; ok {
		return s
	}
	return v
}

// instant takes a time or a pointer to one.
func instant(v any) (time.Time, bool) {
	switch x := v.(type) {
	case time.Time:
		return x, !x.IsZero()
	case *time.Time:
		if x != nil {
			return *x, true
		}
	}
	return time.Time{}, false
}

func (c *Console) date(v any, layout string) string {
	at, ok := instant(v)
	if !ok {
		return ""
	}
	return at.In(c.opt.Location).Format(layout)
}

// ago says how long something is past, in one unit.
func ago(lang string, now time.Time, v any) string {
	at, ok := instant(v)
	if !ok {
		return ""
	}
	d := now.Sub(at)
	switch {
	case d < 5*time.Second: // the database's clock may be ahead
		return text(lang, "ago.now")
	case d < 2*time.Minute:
		return text(lang, "ago.seconds", int(d.Seconds()))
	case d < 2*time.Hour:
		return text(lang, "ago.minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return text(lang, "ago.hours", int(d.Hours()))
	default:
		return text(lang, "ago.days", int(d.Hours()/24))
	}
}

// shownKCV is how much of a check value is shown: what a terminal prints.
const shownKCV = 6

func short(kcv string) string { return kcv[:min(len(kcv), shownKCV)] }

// detail writes the facts of an event as "name value, name value", in the order of the database.
func detail(lang string, raw json.RawMessage) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	var parts []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return strings.Join(parts, ", ")
		}
		var value any
		if d.Decode(&value) != nil {
			return strings.Join(parts, ", ")
		}
		key, _ := name.(string)
		shown, ok := value.(string)
		if !ok {
			b, _ := json.Marshal(value) // it was decoded from JSON
			shown = string(b)
		}
		if shown != "" {
			parts = append(parts, word(lang, "fact", key)+" "+shown)
		}
	}
	return strings.Join(parts, ", ")
}
