package postgres

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// unpackedLimit bounds what a package may unpack to; real ones have about 80 MB.
const unpackedLimit = 1 << 30

// unpack unpacks an npm tarball: a gzipped tar whose paths all begin with "package/", which is dropped. Only plain files and
// directories are taken (npm packs nothing else), and none outside dir.
func unpack(tarball, dir string) error {
	file, err := os.Open(tarball)
	if err != nil {
		return explainPath("open", tarball, err)
	}
	defer func() { _ = file.Close() }()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("unpack PostgreSQL: %w", err)
	}
	reader, left := tar.NewReader(plain), int64(unpackedLimit)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack PostgreSQL: %w", err)
		}
		_, name, _ := strings.Cut(header.Name, "/")
		if header.Typeflag != tar.TypeReg || name == "" {
			continue
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("unpack PostgreSQL: the package names a file outside of itself: %q", header.Name)
		}
		if left -= header.Size; left < 0 {
			return fmt.Errorf("unpack PostgreSQL: the package unpacks to more than %d bytes", int64(unpackedLimit))
		}
		if err := unpackFile(reader, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
}

func unpackFile(content io.Reader, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // programs that the database user runs
		return explainPath("create directory", filepath.Dir(path), err)
	}
	mode := os.FileMode(0o644)
	if strings.Contains(filepath.ToSlash(path), "/bin/") {
		mode = 0o755 // npm does not keep execute bits of files it does not know as programs
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return explainPath("write", path, err)
	}
	_, copyErr := io.Copy(file, content) // Bounded by unpackedLimit through the header.
	if err := errors.Join(copyErr, file.Close()); err != nil {
		return explainPath("write", path, err)
	}
	return nil
}

// linkPrograms makes the links that npm cannot pack. native/pg-symlinks.json lists them; without them the server misses
// libraries such as libicui18n.
func linkPrograms(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "native", "pg-symlinks.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // some systems need none
	}
	if err != nil {
		return fmt.Errorf("unpack PostgreSQL: read its list of links: %w", err)
	}
	var links []struct {
		Source string `json:"source"` // the file that exists
		Target string `json:"target"` // the link to make
	}
	if err := json.Unmarshal(raw, &links); err != nil {
		return fmt.Errorf("unpack PostgreSQL: read its list of links: %w", err)
	}
	for _, link := range links {
		if !filepath.IsLocal(link.Source) || !filepath.IsLocal(link.Target) {
			return fmt.Errorf("unpack PostgreSQL: its list of links leads outside of itself: %q → %q", link.Target, link.Source)
		}
		source, target := filepath.Join(dir, link.Source), filepath.Join(dir, link.Target)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // as above
			return explainPath("create directory", filepath.Dir(target), err)
		}
		relative, err := filepath.Rel(filepath.Dir(target), source)
		if err != nil {
			return fmt.Errorf("unpack PostgreSQL: link %s: %w", link.Target, err)
		}
		if err := os.Symlink(relative, target); err != nil && !errors.Is(err, os.ErrExist) {
			return explainPath("link", target, err)
		}
	}
	return nil
}
