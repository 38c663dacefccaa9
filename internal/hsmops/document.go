package hsmops

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// OpenAPI describes the interface, with the health routes of a listener of its own.
//
//go:embed openapi.json
var OpenAPI []byte

// document is the part of an OpenAPI document that is merged.
type document struct {
	Paths      map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

// Document adds paths and schemas of this interface, and of more, to the OpenAPI document of a listener that serves others beside it.
// What base has already stays.
func Document(base []byte, more ...[]byte) ([]byte, error) {
	var out map[string]any
	if err := json.Unmarshal(base, &out); err != nil {
		return nil, fmt.Errorf("hsm operation: openapi document of the listener: %w", err)
	}
	paths, ok := out["paths"].(map[string]any)
	components, has := out["components"].(map[string]any)
	if !ok || !has {
		return nil, fmt.Errorf("hsm operation: the listener's openapi document has no paths or no components")
	}
	schemas, has := components["schemas"].(map[string]any)
	if !has {
		return nil, fmt.Errorf("hsm operation: the listener's openapi document has no schemas")
	}
	for _, one := range append([][]byte{OpenAPI}, more...) {
		var add document
		if err := json.Unmarshal(one, &add); err != nil {
			return nil, fmt.Errorf("hsm operation: openapi document: %w", err)
		}
		for path, item := range add.Paths {
			if _, there := paths[path]; !there && strings.HasPrefix(path, Prefix) {
				paths[path] = item
			}
		}
		for name, schema := range add.Components.Schemas {
			if _, there := schemas[name]; !there {
				schemas[name] = schema
			}
		}
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("hsm operation: openapi document: %w", err)
	}
	return text, nil
}
