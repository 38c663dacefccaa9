package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// documentHandler serves an embedded OpenAPI 3.1 document (JSON) at the path where it is mounted, /openapi.json. It refuses a document
// that is no JSON or no OpenAPI 3.1, so that a broken one is found at start.
func documentHandler(doc []byte) (http.Handler, error) {
	var head struct {
		OpenAPI string                     `json:"openapi"`
		Info    map[string]any             `json:"info"`
		Paths   map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return nil, fmt.Errorf("openapi document: %w", err)
	}
	if !strings.HasPrefix(head.OpenAPI, "3.1.") {
		return nil, fmt.Errorf("openapi document: version %q, want 3.1.x", head.OpenAPI)
	}
	if head.Info["title"] == nil || head.Info["version"] == nil || len(head.Paths) == 0 {
		return nil, errors.New("openapi document: info.title, info.version and paths are required")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(doc) // fails only when the client is gone
	}), nil
}
