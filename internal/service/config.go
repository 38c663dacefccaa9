package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxConfigFile bounds a configuration file; the largest sample has a few KiB.
const maxConfigFile = 1 << 20

// Validator is what a configuration may implement: LoadConfig calls Validate after decoding. It should join all that it
// finds with errors.Join and say what is allowed.
type Validator interface {
	Validate() error
}

// LoadConfig reads the YAML file at path into the struct that into points to. Defaults are what the struct holds before. The
// keys are those of the yaml tags (without a tag: the field name in lower case). Unknown and repeated keys, wrong types
// and further documents are refused: the error names the file and, for each fault, line, key and what is allowed, but never a
// value. Paths in SecretFile fields become absolute; if into has a Profile field set to production, their rights are
// checked. At the end Validate is called where into has it.
func LoadConfig(path string, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("configuration %s: must be loaded into a pointer to a struct, not %T", path, into)
	}
	text, err := readBounded(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return fmt.Errorf("configuration %s: %w", path, withoutSource(err))
	}
	if len(doc.Docs) > 1 {
		return fmt.Errorf("configuration %s: holds %d documents, want one", path, len(doc.Docs))
	}
	if len(doc.Docs) == 1 && doc.Docs[0].Body != nil && doc.Docs[0].Body.Type() != ast.NullType {
		c := &checker{}
		c.check(doc.Docs[0].Body, v.Elem().Type(), "")
		if err := errors.Join(c.faults...); err != nil {
			return fmt.Errorf("configuration %s:\n%w", path, err)
		}
		// The check above has seen everything but merged and aliased parts; Strict sees these too.
		if err := yaml.UnmarshalWithOptions(text, into, yaml.Strict()); err != nil {
			return fmt.Errorf("configuration %s: %w", path, withoutSource(err))
		}
	}
	if err := settleSecrets(v.Elem(), path); err != nil {
		return fmt.Errorf("configuration %s:\n%w", path, err)
	}
	if val, ok := into.(Validator); ok {
		if err := val.Validate(); err != nil {
			return fmt.Errorf("configuration %s:\n%w", path, err)
		}
	}
	return nil
}

// readBounded reads a whole file of bounded size.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxConfigFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxConfigFile)
	}
	return b, nil
}

// withoutSource keeps the position of a YAML error. Its text quotes the file, which may hold a secret that somebody put in the
// wrong place; only the kinds of error whose message names no more than a key are shown.
func withoutSource(err error) error {
	e, ok := errors.AsType[yaml.Error](err)
	if !ok {
		return errors.New("cannot be read as YAML")
	}
	text := "cannot be read as YAML here; look at indentation, colons and quotes"
	var unknown *yaml.UnknownFieldError
	var repeated *yaml.DuplicateKeyError
	if errors.As(err, &unknown) || errors.As(err, &repeated) {
		text = e.GetMessage()
	}
	if t := e.GetToken(); t != nil && t.Position != nil {
		return fmt.Errorf("line %d: %s", t.Position.Line, text)
	}
	return errors.New(text)
}

// settleSecrets makes the paths of secret files absolute and in production checks their rights.
func settleSecrets(v reflect.Value, configPath string) error {
	folder, err := filepath.Abs(filepath.Dir(configPath))
	if err != nil {
		return err
	}
	production := isProduction(v)
	var faults []error
	eachSecret(v, func(f reflect.Value) {
		path := SecretFile(f.String())
		if path == "" {
			return
		}
		if !filepath.IsAbs(string(path)) {
			path = SecretFile(filepath.Join(folder, string(path)))
			f.SetString(string(path))
		}
		if production {
			if err := path.checkRights(); err != nil {
				faults = append(faults, err)
			}
		}
	})
	return errors.Join(faults...)
}

// isProduction looks for a Profile field at the top level, inlined structs included.
func isProduction(v reflect.Value) bool {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case !v.Type().Field(i).IsExported():
		case f.Type() == reflect.TypeFor[Profile]():
			if f.String() == string(Production) {
				return true
			}
		case f.Kind() == reflect.Struct && v.Type().Field(i).Anonymous:
			if isProduction(f) {
				return true
			}
		}
	}
	return false
}

// eachSecret calls do for every SecretFile that can be reached and set.
func eachSecret(v reflect.Value, do func(reflect.Value)) {
	if v.Type() == reflect.TypeFor[SecretFile]() {
		if v.CanSet() {
			do(v)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				eachSecret(v.Field(i), do)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			eachSecret(v.Elem(), do)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			eachSecret(v.Index(i), do)
		}
	case reflect.Map: // the values of a map cannot be set in place: each goes through a copy
		for _, k := range v.MapKeys() {
			c := reflect.New(v.Type().Elem()).Elem()
			c.Set(v.MapIndex(k))
			eachSecret(c, do)
			v.SetMapIndex(k, c)
		}
	}
}
