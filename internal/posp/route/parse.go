package route

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/keyward/keyward/internal/txn"
)

const (
	// MaxDocument bounds a document in bytes, as the table route_versions does.
	MaxDocument = 256 << 10
	// maxRules bounds what every transaction may have to be compared with.
	maxRules = 200
	// maxValues bounds the values of one condition.
	maxValues = 1000
	// maxName bounds the name of a rule, which goes into answers and logs.
	maxName = 64
)

// kinds are those that rules choose a host for. A reversal is not among them: it goes where its original went.
var kinds = []txn.Kind{
	txn.Purchase, txn.Balance, txn.PurchaseVoid, txn.Refund, txn.PreAuth, txn.PreAuthVoid, txn.Completion, txn.CompletionVoid,
	txn.CompletionAdvice, txn.OfflineSettlement, txn.Adjustment, txn.TipAdjustment, txn.OfflinePurchase, txn.OfflineRefund, txn.ScriptResult,
}

var weekdays = map[string]time.Weekday{
	"mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday, "thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday, "sun": time.Sunday,
}

// Parse reads and checks a document of rules (docs/routing.md). hosts are the names of the configured hosts, in their order: they are the
// default. An empty document is a table without rules. Each fault is a sentence of its own that begins with its line.
func Parse(document string, hosts []string) (*Table, error) {
	if len(document) > MaxDocument {
		return nil, fmt.Errorf("the document has %d bytes; at most %d are allowed", len(document), MaxDocument)
	}
	p := &reader{hosts: hosts, table: &Table{fallback: hosts}}
	file, err := parser.ParseBytes([]byte(document), 0)
	if err != nil {
		return nil, positioned(err)
	}
	for i, doc := range file.Docs {
		switch {
		case i > 0 && doc.Body != nil:
			p.fault(doc.Body, "a second document begins here: put all rules into one list")
		case doc.Body != nil && doc.Body.Type() != ast.NullType:
			p.document(doc.Body)
		}
	}
	if p.faults == nil {
		p.unreachable()
	}
	if err := errors.Join(p.faults...); err != nil {
		return nil, err
	}
	return p.table, nil
}

// positioned makes a sentence with a line of an error of the YAML reader.
func positioned(err error) error {
	var e yaml.Error
	if errors.As(err, &e) && e.GetToken() != nil && e.GetToken().Position != nil {
		return fmt.Errorf("line %d: cannot be read as YAML: %s", e.GetToken().Position.Line, e.GetMessage())
	}
	return errors.New("the document cannot be read as YAML; look at indentation, colons and quotes")
}

// reader collects rules and faults.
type reader struct {
	hosts        []string
	table        *Table
	faults       []error
	fallbackLine int // of "default", 0 where it is not given
}

func (p *reader) fault(n ast.Node, format string, args ...any) {
	p.faultAt(lineOf(n), format, args...)
}

func (p *reader) faultAt(line int, format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...)))
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

// value is one word of the document.
type value struct {
	text string
	line int
}

// mapping reads the keys of a mapping, each once.
func (p *reader) mapping(n ast.Node, what string) map[string]*ast.MappingValueNode {
	var list []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		list = m.Values
	case *ast.MappingValueNode:
		list = []*ast.MappingValueNode{m}
	default:
		p.fault(n, "%s must be keys with values", what)
		return nil
	}
	out := map[string]*ast.MappingValueNode{}
	for _, one := range list {
		key := one.Key.GetToken().Value
		if out[key] != nil {
			p.fault(one.Key, "%s is there twice", key)
		}
		out[key] = one
	}
	return out
}

// values reads one word or a list of words.
func (p *reader) values(n ast.Node, key string) []value {
	list := []ast.Node{n}
	if seq, ok := n.(*ast.SequenceNode); ok {
		list = seq.Values
	}
	if len(list) == 0 || len(list) > maxValues {
		p.fault(n, "%s must have 1 to %d values; leave it out where it does not matter", key, maxValues)
		return nil
	}
	var out []value
	for _, one := range list {
		switch one.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode:
			out = append(out, value{one.GetToken().Value, lineOf(one)})
		default:
			p.fault(one, "%s must be words or numbers, written out", key)
		}
	}
	return out
}

// one reads a key that has a single value.
func (p *reader) one(n ast.Node, key string) (value, bool) {
	list := p.values(n, key)
	if len(list) > 1 {
		p.fault(n, "%s has one value", key)
	}
	if len(list) != 1 {
		return value{}, false
	}
	return list[0], true
}

func (p *reader) document(n ast.Node) {
	for key, v := range p.mapping(n, "the document") {
		switch key {
		case "rules":
			p.rules(v.Value)
		case "default":
			p.fallbackLine = lineOf(v.Key)
			p.table.fallback = p.known(p.values(v.Value, "default"))
		default:
			p.fault(v.Key, "key %q is not known; a document has rules and default", key)
		}
	}
	slices.SortFunc(p.faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) }) // the keys came in no order
}

func (p *reader) rules(n ast.Node) {
	seq, ok := n.(*ast.SequenceNode)
	switch {
	case n.Type() == ast.NullType:
		return
	case !ok:
		p.fault(n, "rules must be a list")
		return
	case len(seq.Values) > maxRules:
		p.fault(n, "%d rules are too many; at most %d are allowed", len(seq.Values), maxRules)
		return
	}
	names := map[string]int{}
	for _, one := range seq.Values {
		r := p.rule(one)
		if before := names[r.name]; before > 0 {
			p.faultAt(r.line, "the name %q is that of the rule in line %d", r.name, before)
		}
		names[r.name] = r.line
		p.table.rules = append(p.table.rules, r)
	}
}

// known checks a list of hosts.
func (p *reader) known(list []value) []string {
	var out []string
	for _, v := range list {
		switch {
		case !slices.Contains(p.hosts, v.text):
			p.faultAt(v.line, "host %q is not configured; configured are: %s", v.text, strings.Join(p.hosts, ", "))
		case slices.Contains(out, v.text):
			p.faultAt(v.line, "host %q is named twice", v.text)
		default:
			out = append(out, v.text)
		}
	}
	return out
}

// named checks the name of a rule.
func (p *reader) named(v value) string {
	if v.text == "" || len(v.text) > maxName || strings.ContainsFunc(v.text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		p.faultAt(v.line, "a name has 1 to %d printable characters", maxName)
	}
	return v.text
}

// amount reads a number of fen.
func (p *reader) amount(v value) int64 {
	n, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil || n < 0 {
		p.faultAt(v.line, "%q is not an amount; give fen without decimals, for example 10000 for 100.00", v.text)
		return 0
	}
	return n
}
