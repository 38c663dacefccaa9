package route_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/txn"
)

var hosts = []string{"bank", "other"}

func parse(t testing.TB, document string) *route.Table {
	t.Helper()
	table, err := route.Parse(document, hosts)
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	return table
}

// noon is a Monday.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func facts(change func(*route.Facts)) route.Facts {
	f := route.Facts{Card: "6222020000000001", Kind: txn.Purchase, Amount: 10000, Merchant: "104110000000001", Terminal: "10000001", At: noon}
	if change != nil {
		change(&f)
	}
	return f
}

// TestConditions: each condition alone, with transactions that meet it and transactions that do not.
func TestConditions(t *testing.T) {
	t.Parallel()
	card := func(n string) func(*route.Facts) { return func(f *route.Facts) { f.Card = n } }
	kind := func(k txn.Kind) func(*route.Facts) { return func(f *route.Facts) { f.Kind = k } }
	amount := func(n int64) func(*route.Facts) { return func(f *route.Facts) { f.Amount = n } }
	merchant := func(m string) func(*route.Facts) { return func(f *route.Facts) { f.Merchant = m } }
	at := func(d time.Duration) func(*route.Facts) { return func(f *route.Facts) { f.At = noon.Add(d) } }
	type change = func(*route.Facts)
	for condition, is := range map[string]struct{ fit, miss []change }{
		"": {fit: []change{nil}},
		"cards: [622200-622299, 6230, \"0012\"]": {
			[]change{card("6222000000000000"), card("6222990000000000"), card("6230990000000000"), card("0012340000000000")},
			[]change{card("6223000000000000"), card("6221990000000000"), card("6231000000000000"), card("6222"), card(""), card("12")},
		},
		"kinds: [purchase, balance]":       {[]change{kind(txn.Purchase), kind(txn.Balance)}, []change{kind(txn.Refund)}},
		"kinds: refund":                    {[]change{kind(txn.Refund)}, []change{kind(txn.Purchase)}},
		"amount: {from: 100, to: 200}":     {[]change{amount(100), amount(200)}, []change{amount(99), amount(201), amount(0)}},
		"amount: {from: 100}":              {[]change{amount(100), amount(1 << 40)}, []change{amount(99)}},
		"amount: {to: 100}":                {[]change{amount(0), amount(100)}, []change{amount(101)}},
		"merchants: [104110000000001]":     {[]change{merchant("104110000000001")}, []change{merchant("104110000000002"), merchant("")}},
		"merchants: [\"1041*\", 2*]":       {[]change{merchant("104110000000002"), merchant("204110000000002")}, []change{merchant("104010000000002")}},
		"hours: 08:00-20:00":               {[]change{at(0), at(-4 * time.Hour), at(8*time.Hour - time.Second)}, []change{at(8 * time.Hour), at(-4*time.Hour - time.Second)}},
		"hours: \"22:00-06:00\"":           {[]change{at(10 * time.Hour), at(-7 * time.Hour)}, []change{at(0), at(-6 * time.Hour)}},
		"hours: 20:00-24:00":               {[]change{at(11 * time.Hour)}, []change{at(12 * time.Hour), at(0)}},
		"days: [mon, sun]":                 {[]change{at(0), at(-24 * time.Hour)}, []change{at(24 * time.Hour)}},
		"percent: 100":                     {fit: []change{nil}},
		"{kinds: [purchase], days: [tue]}": {[]change{at(24 * time.Hour)}, []change{nil, func(f *route.Facts) { f.Kind, f.At = txn.Refund, noon.Add(24*time.Hour) }}},
	} {
		condition = strings.NewReplacer("{kinds", "kinds", "], days: [tue]}", "]\n    days: [tue]").Replace(condition)
		table := parse(t, "rules:\n  - name: one\n    hosts: [other]\n    "+condition+"\n")
		for fit, list := range map[string][]change{"other": is.fit, "bank": is.miss} {
			for i, c := range list {
				f := facts(c)
				_, got := table.Choose(f)
				d := table.Explain(f)
				if got[0] != fit || d.Hosts[0] != fit || (d.Rule == "one") != (fit == "other") {
					t.Errorf("%s: transaction %d for %s: chosen %q, explained %+v", condition, i, fit, got, d)
				}
			}
		}
	}
}

// TestOrder: the first rule that fits decides; without one the default does.
func TestOrder(t *testing.T) {
	t.Parallel()
	table := parse(t, `
rules:
  - {name: a, kinds: [refund], hosts: [other]}
  - {name: b, amount: {to: 5000}, hosts: [other, bank]}
  - {name: c, merchants: ["1041*"], hosts: [bank]}
default: [other]
`)
	for want, f := range map[string]route.Facts{
		"a other":      facts(func(f *route.Facts) { f.Kind, f.Amount = txn.Refund, 1 }),
		"b other bank": facts(func(f *route.Facts) { f.Amount = 5000 }),
		"c bank":       facts(nil),
		" other":       facts(func(f *route.Facts) { f.Merchant = "2" }),
	} {
		rule, hosts := table.Choose(f)
		if got := rule + " " + strings.Join(hosts, " "); got != want {
			t.Errorf("%v: chosen %q, want %q", f, got, want)
		}
	}
	if _, hosts := parse(t, "").Choose(facts(nil)); strings.Join(hosts, " ") != "bank other" {
		t.Errorf("without rules: %q", hosts)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	table := parse(t, "rules:\n- name: far\n  cards: [6229]\n  hosts: [other]\n\n- name: near\n  cards: [6222]\n  amount: {from: 1, to: 20000}\n  hosts: [bank]\n")
	d := table.Explain(facts(nil))
	if d.Rule != "near" || d.Line != 6 || len(d.Asked) != 2 || d.Asked[0].Line != 2 {
		t.Errorf("%+v", d)
	}
	for _, text := range []string{d.Why, d.Asked[0].Why} {
		if strings.Contains(text, "6222020000000001") || !strings.Contains(text, "card 622202******0001") {
			t.Errorf("%q", text)
		}
	}
	if want := "card 622202******0001 is not card 6229"; d.Asked[0].Why != want {
		t.Errorf("%q, want %q", d.Asked[0].Why, want)
	}
	if f := facts(nil); strings.Contains(fmt.Sprint(f), f.Card) {
		t.Error(f)
	}
}

// TestShare: a share is stable, near its percentage, grows without losing anybody, and is drawn apart for each rule.
func TestShare(t *testing.T) {
	t.Parallel()
	share := func(name, percent, by string) *route.Table {
		return parse(t, "rules:\n  - {name: "+name+", percent: "+percent+", by: "+by+", hosts: [other]}\n")
	}
	taken := func(table *route.Table, n int) bool {
		rule, _ := table.Choose(facts(func(f *route.Facts) {
			f.Card = string(rune('0'+n%10)) + f.Card[:9] + strings.Repeat("1", n/10%7) + time.Duration(n).String()
		}))
		return rule != ""
	}
	small, large, other := share("a", "5", "card"), share("a", "20", "card"), share("b", "20", "card")
	var counts [4]int
	const all = 20000
	for n := range all {
		s, l, o := taken(small, n), taken(large, n), taken(other, n)
		if s && !l {
			t.Fatalf("card %d left when the share grew", n)
		}
		for i, is := range []bool{s, l, o, l && o} {
			if is {
				counts[i]++
			}
		}
	}
	for i, want := range []int{all * 5 / 100, all * 20 / 100, all * 20 / 100, all * 4 / 100} {
		if counts[i] < want*8/10 || counts[i] > want*12/10 {
			t.Errorf("share %d has %d of %d, want about %d", i, counts[i], all, want)
		}
	}
	// What it is drawn from decides, and nothing else.
	for by, change := range map[string]func(*route.Facts, int){
		"terminal":    func(f *route.Facts, n int) { f.Card, f.Amount = f.Card[n%5:], int64(n) },
		"merchant":    func(f *route.Facts, n int) { f.Card, f.Terminal = f.Card[n%5:], f.Terminal[n%5:] },
		"card":        func(f *route.Facts, n int) { f.Terminal, f.Merchant = f.Terminal[n%5:], f.Merchant[n%5:] },
		"transaction": func(f *route.Facts, n int) { f.At = f.At.Add(time.Duration(n) * time.Hour) },
	} {
		table := share("c", "50", by)
		first, _ := table.Choose(facts(nil))
		for n := range 50 {
			if got, _ := table.Choose(facts(func(f *route.Facts) { change(f, n) })); got != first {
				t.Fatalf("by %s: another decision", by)
			}
		}
	}
	// Terminals get both sides of a share by terminal.
	sides, table := map[string]bool{}, share("c", "50", "terminal")
	for n := range 50 {
		rule, _ := table.Choose(facts(func(f *route.Facts) { f.Terminal = time.Duration(n).String() }))
		sides[rule] = true
	}
	if len(sides) != 2 {
		t.Errorf("sides %v", sides)
	}
}

// TestRefusedDocuments: each fault is a sentence that begins with its line.
func TestRefusedDocuments(t *testing.T) {
	t.Parallel()
	one := func(condition string) string { return "rules:\n- name: a\n  hosts: [bank]\n  " + condition + "\n" }
	two := func(first, second string) string {
		return "rules:\n- name: a\n  hosts: [bank]\n  " + first + "\n- name: b\n  hosts: [other]\n  " + second + "\n"
	}
	for document, want := range map[string]string{
		"rules:\n- name: a\n  hosts: [bonk]\n":               `line 3: host "bonk" is not configured; configured are: bank, other`,
		"default: [nobody]":                                  `line 1: host "nobody" is not configured`,
		"default: []":                                        "line 1: default must have 1 to",
		"rules:\n- name: a\n":                                `line 2: rule "a" names no hosts`,
		"rules:\n- hosts: [bank]\n":                          "line 2: the rule has no name",
		"rules:\n- name: a\n  hosts: [bank, bank]\n":         "line 3: host \"bank\" is named twice",
		one("hostz: [bank]"):                                 `line 4: key "hostz" is not known; a rule has`,
		one("cards: [62x]"):                                  `line 4: "62x" is no range`,
		one("cards: []"):                                     "line 4: cards must have 1 to",
		one("cards:"):                                        "line 4: cards must be words",
		one("cards: [62-6299]"):                              "line 4: the two ends of 62-6299",
		one("cards: [6299-6200]"):                            "line 4: the range 6299-6200 matches nothing",
		one("cards: [\"12345678901234567890\"]"):             "line 4: \"12345678901234567890\" is no range",
		one("kinds: [buy]"):                                  `line 4: no rule chooses the host of a "buy"; known are: purchase`,
		one("kinds: [reversal]"):                             "it goes where its original went",
		one("amount: {from: 5, to: 4}"):                      "line 4: the amounts 5 to 4 match nothing",
		one("amount: {from: 1.5}"):                           `line 4: "1.5" is not an amount`,
		one("amount: {from: -1}"):                            "is not an amount",
		one("amount: {to: 0}"):                               "line 4: amount.to is 0",
		one("amount: {above: 1}"):                            "line 4: key \"above\" is not known",
		one("amount: 7"):                                     "line 4: amount must be keys",
		one("amount: {from: 1}\n  kinds: [balance]"):         `line 2: rule "a" matches nothing: balance has no amount`,
		one("merchants: [1041]"):                             `line 4: merchant "1041" matches nothing`,
		one("merchants: [\"*\"]"):                            "line 4: the merchant * is every merchant",
		one("hours: 8-20"):                                   "line 4: \"8-20\" is no time of day",
		one("hours: 08:00-08:00"):                            "line 4: the hours 08:00-08:00 match nothing",
		one("days: [monday]"):                                "line 4: \"monday\" is no day",
		one("percent: 0"):                                    "line 4: percent 0 matches nothing",
		one("percent: 101"):                                  "line 4: percent \"101\" is not a number",
		one("percent: NaN"):                                  "line 4: ",
		one("by: card"):                                      "line 4: by says what percent",
		one("percent: 5\n  by: moon"):                        "line 5: by \"moon\" is not known",
		one("name: b"):                                       "line 4: ",
		one("amount: &x {from: 1}"):                          "line 4: amount must be keys",
		one("kinds: !!str purchase"):                         "line 4: ",
		two("kinds: [refund]", "kinds: [refund]"):            `line 5: rule "b" matches nothing: rule "a" in line 2 takes all of it before`,
		two("cards: [62]", "cards: [622200-622299]"):         "line 5: rule \"b\" matches nothing",
		two("cards: [6200-6299]", "cards: [62]"):             "line 5: rule \"b\" matches nothing",
		two("hours: 20:00-06:00", "hours: 22:00-05:00"):      "line 5: rule \"b\" matches nothing",
		two("amount: {to: 10}", "amount: {from: 2, to: 9}"):  "line 5: rule \"b\" matches nothing",
		two("merchants: [\"10*\"]", "merchants: [\"104*\"]"): "line 5: rule \"b\" matches nothing",
		two("percent: 100", "kinds: [refund]"):               "line 5: rule \"b\" matches nothing",
		strings.Replace(two("", "kinds: [refund]"), "name: b", "name: a", 1): "line 5: the name \"a\" is that of the rule in line 2",
		one("") + "default: [other]\n":                                       "line 5: the default matches nothing: rule \"a\"",
		"rules: 7":                                                           "line 1: rules must be a list",
		"- a":                                                                "line 1: the document must be keys",
		"route: []":                                                          "line 1: key \"route\" is not known",
		"rules: [\n":                                                         "line ",
		"default: [bank]\n---\ndefault: [bank]\n": "line 3: a second document begins here",
		strings.Repeat("#", route.MaxDocument+1):  "at most 262144 are allowed",
	} {
		if _, err := route.Parse(document, hosts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s\n  %v\n  want %s", document, err, want)
		}
	}
	// What only looks like it is left alone.
	for _, document := range []string{
		two("percent: 50", "kinds: [refund]"), two("hours: 22:00-05:00", "hours: 20:00-06:00"), two("cards: [622200-622299]", "cards: [62]"),
		two("kinds: [refund]", ""), two("amount: {from: 5}", "amount: {from: 4}"), two("days: [mon]", "days: [mon, tue]"),
	} {
		parse(t, document)
	}
}

// FuzzParse: no document does harm, and one that is taken decides and explains alike.
func FuzzParse(f *testing.F) {
	f.Add("rules:\n- name: a\n  cards: [62-63]\n  amount: {from: 1, to: 5}\n  percent: 5\n  by: card\n  hosts: [bank]\ndefault: other\n")
	f.Add("rules: [{name: a, hours: '22:00-06:00', days: mon, merchants: ['1*'], kinds: balance, hosts: other}]")
	f.Add("? a\n: <<: *b")
	f.Fuzz(func(t *testing.T, document string) {
		table, err := route.Parse(document, hosts)
		if err != nil {
			return
		}
		rule, chosen := table.Choose(facts(nil))
		if d := table.Explain(facts(nil)); d.Rule != rule || len(chosen) == 0 || strings.Join(d.Hosts, " ") != strings.Join(chosen, " ") {
			t.Errorf("chosen %q %q, explained %+v", rule, chosen, d)
		}
	})
}
