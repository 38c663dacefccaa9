package service

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// hinter is a configuration type that says what it accepts.
type hinter interface{ ConfigHint() string }

// checker compares a YAML tree with a type and collects every fault, so that one run shows them all.
type checker struct{ faults []error }

// fault notes one. The text names keys and types, never a value.
func (c *checker) fault(n ast.Node, path, format string, args ...any) {
	if path == "" {
		path = "the top level"
	}
	line := 0
	if t := n.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	c.faults = append(c.faults, fmt.Errorf("line %d: %s: %s", line, path, fmt.Sprintf(format, args...)))
}

// check compares the node with what t accepts.
func (c *checker) check(n ast.Node, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch x := n.(type) {
	case *ast.AnchorNode:
		c.check(x.Value, t, path)
		return
	case *ast.TagNode:
		c.check(x.Value, t, path)
		return
	case *ast.AliasNode, *ast.MergeKeyNode:
		return // seen where it is defined, and by the strict decoder
	case *ast.NullNode:
		return // leaves the default
	}
	switch {
	case decodesItself(t):
		c.checkScalar(n, t, path)
	case t.Kind() == reflect.Struct:
		c.checkStruct(n, t, path)
	case t.Kind() == reflect.Map:
		if values, ok := c.mapping(n, path, "a group of keys"); ok {
			for _, v := range values {
				c.check(v.Value, t.Elem(), join(path, v.Key.String()))
			}
		}
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Array:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			c.fault(n, path, "wrong type, want a list of %s", describe(t.Elem()))
			return
		}
		for i, v := range seq.Values {
			c.check(v, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	default:
		c.checkScalar(n, t, path)
	}
}

// checkStruct looks for keys that the struct does not have.
func (c *checker) checkStruct(n ast.Node, t reflect.Type, path string) {
	values, ok := c.mapping(n, path, "a group of keys: "+strings.Join(names(fields(t)), ", "))
	if !ok {
		return
	}
	known := fields(t)
	for _, v := range values {
		if _, merge := v.Key.(*ast.MergeKeyNode); merge {
			continue
		}
		key := keyText(v.Key)
		ft, ok := known[key]
		if !ok {
			c.fault(v.Key, join(path, key), "unknown key; allowed here: %s", strings.Join(names(known), ", "))
			continue
		}
		c.check(v.Value, ft, join(path, key))
	}
}

// checkScalar tries the decoder on this one value.
func (c *checker) checkScalar(n ast.Node, t reflect.Type, path string) {
	if err := yaml.NodeToValue(n, reflect.New(t).Interface(), yaml.Strict()); err != nil {
		c.fault(n, path, "not allowed, want %s", describe(t))
		return
	}
	// The decoder takes a number for a text and a text for a boolean; a port of "yes" must not pass for one.
	_, isText := n.(*ast.StringNode)
	_, isBlock := n.(*ast.LiteralNode)
	switch k := t.Kind(); {
	case decodesItself(t):
	case k == reflect.String:
	case (isText || isBlock) && k != reflect.Interface:
		c.fault(n, path, "not allowed, want %s", describe(t))
	}
}

// mapping returns the pairs of a mapping node.
func (c *checker) mapping(n ast.Node, path, want string) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	c.fault(n, path, "wrong type, want %s", want)
	return nil, false
}

// fields lists the keys of a struct; those of inlined structs count as its own.
func fields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case slices.Contains(strings.Split(options, ","), "inline"):
			ft := f.Type
			for ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			for k, v := range fields(ft) {
				out[k] = v
			}
		case name == "":
			out[strings.ToLower(f.Name)] = f.Type
		default:
			out[name] = f.Type
		}
	}
	return out
}

func names(m map[string]reflect.Type) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// decodesItself says that the type has its own way from YAML.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) ||
		p.Implements(reflect.TypeFor[yaml.BytesUnmarshaler]()) || p.Implements(reflect.TypeFor[yaml.InterfaceUnmarshaler]())
}

// describe says what a type accepts.
func describe(t reflect.Type) string {
	if h, ok := reflect.New(t).Interface().(hinter); ok {
		return h.ConfigHint()
	}
	switch k := t.Kind(); {
	case k == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Uint8 || t.Kind() == reflect.Uint16:
		return fmt.Sprintf("a whole number from 0 to %d", 1<<t.Bits()-1)
	case k >= reflect.Uint && k <= reflect.Uint64:
		return "a whole number not below 0"
	case k >= reflect.Int && k <= reflect.Int64:
		return "a whole number"
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	case k == reflect.String:
		return "a text"
	case k == reflect.Struct || k == reflect.Map:
		return "groups of keys"
	default:
		return "a value of type " + t.String()
	}
}

func keyText(k ast.Node) string {
	if t := k.GetToken(); t != nil {
		return t.Value
	}
	return k.String()
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
