package route

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// openAPI describes the interface, without the path of the document itself: the listener's has that.
//
//go:embed openapi.json
var openAPI []byte

// Document adds this interface to the OpenAPI document of a listener that serves others beside it.
func Document(base []byte) ([]byte, error) {
	type document map[string]any
	var out, own document
	if err := errors.Join(json.Unmarshal(base, &out), json.Unmarshal(openAPI, &own)); err != nil {
		return nil, fmt.Errorf("routing: openapi document: %w", err)
	}
	at := func(d document, path string) map[string]any {
		m := map[string]any(d)
		for key := range strings.SplitSeq(path, ".") {
			m, _ = m[key].(map[string]any)
		}
		return m
	}
	for _, part := range []string{"paths", "components.schemas"} {
		into, add := at(out, part), maps.Clone(at(own, part))
		if into == nil {
			return nil, fmt.Errorf("routing: the listener's openapi document has no %s", part)
		}
		maps.DeleteFunc(add, func(name string, _ any) bool { _, there := into[name]; return there })
		maps.Copy(into, add)
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("routing: openapi document: %w", err)
	}
	return text, nil
}
