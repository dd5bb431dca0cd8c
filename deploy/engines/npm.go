package main

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// npmPackage is a file out of a package of the npm registry; npm itself is not needed.
type npmPackage struct {
	scope, name, version string
	sha512               string // of the archive, in base64, as the registry tells it
	file                 string // in the archive
}

// path is where the file is once fetched.
func (n npmPackage) path(cache string) string {
	return filepath.Join(cache, fmt.Sprintf("%s-%s-%s", n.name, n.version, filepath.Base(n.file)))
}

// fetch downloads the file unless it is there. It appears as a whole or not at all.
func (n npmPackage) fetch(ctx context.Context, cache string) (err error) {
	if _, err := os.Stat(n.path(cache)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("create cache: %w", err)
	}
	registry := strings.TrimSuffix(cmp.Or(os.Getenv("npm_config_registry"), "https://registry.npmjs.org"), "/")
	address := fmt.Sprintf("%s/%s/%s/-/%s-%s.tgz", registry, n.scope, n.name, n.name, n.version)
	logf("fetching %s", address)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", n.name, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", n.name, err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch %s: %s", address, res.Status)
	}
	sum := sha512.New()
	archive := io.TeeReader(res.Body, sum)
	part := n.path(cache) + ".part"
	defer os.Remove(part) //nolint:errcheck // It is gone when all went well.
	if err := n.extract(archive, part); err != nil {
		return fmt.Errorf("unpack %s: %w", n.name, err)
	}
	if _, err := io.Copy(io.Discard, archive); err != nil {
		return fmt.Errorf("fetch %s: %w", n.name, err)
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != n.sha512 {
		return fmt.Errorf("fetch %s: the archive's SHA-512 is %s, not %s", n.name, got, n.sha512)
	}
	return os.Rename(part, n.path(cache))
}

// extract writes the file of the archive to path.
func (n npmPackage) extract(archive io.Reader, path string) (err error) {
	z, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err != nil {
			return fmt.Errorf("look for %s: %w", n.file, err)
		}
		if h.Name != n.file {
			continue
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, t)
		return errors.Join(err, f.Close())
	}
}
