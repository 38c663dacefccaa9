package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// MaxBody is the longest request body in bytes: the largest import of terminals in one call stays well under 1 MiB.
const MaxBody = 1 << 20

// DecodeJSON reads the body into the value that into points to. It refuses, with an *Error that says what is allowed: another
// media type (415), more than MaxBody (413), unknown members, wrong types, broken JSON, an empty body, and anything after the
// document (400). No value of the body is repeated in an error.
func DecodeJSON(w http.ResponseWriter, r *http.Request, into any) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return &Error{Status: http.StatusUnsupportedMediaType, Detail: "the body must be JSON", NextStep: "send the header Content-Type: application/json"}
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return decodeError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return decodeError(err)
		}
		return &Error{Status: http.StatusBadRequest, Detail: "the body goes on after its JSON document", NextStep: "send one document only"}
	}
	return nil
}

// decodeError says what is wrong, by member and position, without the value.
func decodeError(err error) error {
	bad := func(detail string) error {
		return &Error{Status: http.StatusBadRequest, Detail: detail, NextStep: "compare the body with the schema in /openapi.json"}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body is longer than %d bytes", MaxBody), NextStep: "send it in parts"}
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return bad(fmt.Sprintf("the body is not JSON at byte %d", e.Offset))
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := e.Field
		if field == "" {
			field = "the document"
		}
		return bad(fmt.Sprintf("%s has the wrong type at byte %d, want %s", field, e.Offset, jsonKind(e.Type.Kind().String())))
	}
	switch {
	case errors.Is(err, io.EOF):
		return bad("the body is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad("the body ends in the middle of its JSON document")
	}
	// encoding/json has no type for this error; the member's name is quoted and escaped in it already.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return bad("unknown member " + name)
	}
	return &Error{Status: http.StatusBadRequest, Detail: "the body has a value that is not allowed", NextStep: "compare the body with the schema in /openapi.json", Cause: err}
}

// jsonKind names a Go kind as JSON does.
func jsonKind(kind string) string {
	switch {
	case strings.Contains(kind, "int"):
		return "a whole number in range"
	case strings.HasPrefix(kind, "float"):
		return "a number"
	case kind == "bool":
		return "true or false"
	case kind == "slice" || kind == "array":
		return "an array"
	case kind == "struct" || kind == "map":
		return "an object"
	default:
		return "a string"
	}
}
