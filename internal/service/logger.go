package service

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger writes to w at the level ("debug", "info", "warn", "error") and in the format ("text", "json"). Card numbers, keys
// and PEM blocks are masked in whatever is logged through it.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	switch level {
	case "debug":
		l = slog.LevelDebug
	case "info", "":
		l = slog.LevelInfo
	case "warn":
		l = slog.LevelWarn
	case "error":
		l = slog.LevelError
	default:
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text", "":
		return slog.New(redactor{slog.NewTextHandler(w, o)}), nil
	case "json":
		return slog.New(redactor{slog.NewJSONHandler(w, o)}), nil
	default:
		return nil, fmt.Errorf("log format %q: want text or json", format)
	}
}
