package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// maven is a set of jars, given by the pom that lists them.
type maven struct {
	name string
	pom  string
}

// lib is where the jars are once fetched. Its name covers the pom, so that a changed list is a new folder.
func (m maven) lib(cache string) string {
	sum := sha256.Sum256([]byte(m.pom))
	return filepath.Join(cache, fmt.Sprintf("%s-%x", m.name, sum[:6]))
}

// fetch downloads the jars unless they are there. The folder appears as a whole or not at all.
func (m maven) fetch(ctx context.Context, cache string) error {
	lib := m.lib(cache)
	if _, err := os.Stat(lib); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for jars of %s: %w", m.name, err)
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("fetch jars of %s: Maven is needed for the first start: apt-get install maven, or brew install maven: %w", m.name, err)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("create cache: %w", err)
	}
	part, err := os.MkdirTemp(cache, m.name+"-part-")
	if err != nil {
		return fmt.Errorf("create cache: %w", err)
	}
	defer os.RemoveAll(part) //nolint:errcheck // Left-overs of a failed download cost only space; the error that matters is returned below.
	pom := filepath.Join(part, "pom.xml")
	if err := os.WriteFile(pom, []byte(m.pom), 0o644); err != nil {
		return fmt.Errorf("write pom of %s: %w", m.name, err)
	}
	logf("fetching the jars of %s from Maven Central into %s", m.name, cache)
	// Strict checksums: a damaged download fails here and not as a broken server.
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "-C", "-Dstyle.color=never", "-f", pom, "dependency:copy-dependencies",
		"-DoutputDirectory="+filepath.Join(part, "lib"), "-DincludeScope=runtime")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("fetch jars of %s: mvn: %w", m.name, err)
	}
	if err := os.Rename(filepath.Join(part, "lib"), lib); err != nil {
		return fmt.Errorf("keep jars of %s: %w", m.name, err)
	}
	return nil
}

// java finds the machine's Java: JAVA_HOME first, then the path.
func java() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		return filepath.Join(home, "bin", "java"), nil
	}
	path, err := exec.LookPath("java")
	if err != nil {
		return "", fmt.Errorf("find Java 17 or newer: apt-get install openjdk-17-jre-headless, or brew install openjdk@17: %w", err)
	}
	return path, nil
}
