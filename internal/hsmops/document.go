package hsmops

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// OpenAPI describes the interface.
//
//go:embed openapi.json
var OpenAPI []byte

// document is the part of an OpenAPI document that is merged.
type document struct {
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

// Document adds paths and schemas of this interface, and of more, to the OpenAPI document of a listener that serves others beside it.
// What base has already stays.
func Document(base []byte, more ...[]byte) ([]byte, error) {
	return merge(base, append([][]byte{OpenAPI}, more...), func(path string) string { return path }, nil)
}

// RelayDocument adds the interface, drills included, to the document of a relay that serves it for several services. at stands in front of
// the paths instead of /v1 and names the service by a parameter: /v1/posps/{posp}.
func RelayDocument(base []byte, at string) ([]byte, error) {
	_, name, _ := strings.Cut(at, "{")
	parameter := map[string]any{
		"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": map[string]string{"type": "string"}, "description": "Name of the service in the configuration.",
	}
	return merge(base, [][]byte{OpenAPI, DrillOpenAPI}, func(path string) string { return relayed(at, path) }, []any{parameter})
}

// relayed is where a relay serves a path of this interface.
func relayed(at, path string) string { return at + strings.TrimPrefix(path, "/v1") }

// RelayPaths are the patterns of all paths of the interface, drills included, where a relay serves them: those that are read and those that
// change something.
func RelayPaths(at string) (reads, changes []string, err error) {
	for _, one := range [][]byte{OpenAPI, DrillOpenAPI} {
		doc, err := parse(one)
		if err != nil {
			return nil, nil, err
		}
		for path, item := range doc.Paths {
			if _, ok := item["get"]; ok {
				reads = append(reads, relayed(at, path))
			}
			if _, ok := item["post"]; ok {
				changes = append(changes, relayed(at, path))
			}
		}
	}
	return reads, changes, nil
}

// parse reads a document and drops what is not below Prefix.
func parse(text []byte) (document, error) {
	var doc document
	if err := json.Unmarshal(text, &doc); err != nil {
		return doc, fmt.Errorf("hsm operation: openapi document: %w", err)
	}
	for path := range doc.Paths {
		if !strings.HasPrefix(path, Prefix) {
			delete(doc.Paths, path)
		}
	}
	return doc, nil
}

func merge(base []byte, docs [][]byte, place func(path string) string, parameters []any) ([]byte, error) {
	var out map[string]any
	if err := json.Unmarshal(base, &out); err != nil {
		return nil, fmt.Errorf("hsm operation: openapi document of the listener: %w", err)
	}
	paths, _ := out["paths"].(map[string]any)
	components, _ := out["components"].(map[string]any)
	schemas, _ := components["schemas"].(map[string]any)
	if paths == nil || schemas == nil {
		return nil, errors.New("hsm operation: the listener's openapi document has no paths or no schemas")
	}
	for _, one := range docs {
		add, err := parse(one)
		if err != nil {
			return nil, err
		}
		for path, operations := range add.Paths {
			path = place(path)
			if _, there := paths[path]; there {
				continue
			}
			item := map[string]any{}
			for method, operation := range operations {
				item[method] = operation
			}
			if parameters != nil {
				item["parameters"] = parameters
			}
			paths[path] = item
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
