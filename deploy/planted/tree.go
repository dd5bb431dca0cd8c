package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tree is a copy of the module to plant bugs in.
type tree struct{ root, dir string }

// copy copies everything but what is hidden or built.
func (t *tree) copy() error {
	err := filepath.WalkDir(t.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.root, path)
		if err != nil {
			return err
		}
		to := filepath.Join(t.dir, rel)
		switch {
		case d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || rel == "bin" || rel == "headwater-data"):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case !d.Type().IsRegular() || strings.HasSuffix(rel, ".test"):
			return nil
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile, as editors do
		}
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	if err != nil {
		return fmt.Errorf("copy the tree: %w", err)
	}
	return nil
}

// tries is how often a bug may hide: what it does may depend on the moment of a
// crash.
const tries = 3

// try plants b, runs its test, and takes b out again. Without an error the test
// found it, and how is the first thing that it said.
func (t *tree) try(ctx context.Context, b bug) (how string, err error) {
	originals := make(map[string][]byte)
	defer func() {
		for file, text := range originals {
			err = errors.Join(err, os.WriteFile(filepath.Join(t.dir, file), text, 0o644))
		}
	}()
	for _, e := range b.edits {
		path := filepath.Join(t.dir, e.file)
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("plant: %w", err)
		}
		if _, ok := originals[e.file]; !ok {
			originals[e.file] = text
		}
		planted, err := e.apply(string(text))
		if err != nil {
			return "", fmt.Errorf("plant: %w", err)
		}
		if err := os.WriteFile(path, []byte(planted), 0o644); err != nil {
			return "", fmt.Errorf("plant: %w", err)
		}
	}
	// What does not compile is not found by a test.
	if out, err := t.command(ctx, "build", "./...").CombinedOutput(); err != nil {
		return "", fmt.Errorf("the planted bug does not compile: %w\n%s", err, out)
	}
	for range tries {
		red, out, err := t.run(ctx, b.test)
		if err != nil || red {
			return said(out), err
		}
	}
	return "", fmt.Errorf("the test stays green in %d runs", tries)
}

// said is the line of a test's output that tells best why it failed: the first
// that it logged after its seed, or a panic.
func said(output string) string {
	line := "nothing"
	for l := range strings.Lines(output) {
		if l = strings.TrimSpace(l); strings.Contains(l, "_test.go:") && !strings.Contains(l, ": seed ") || strings.HasPrefix(l, "panic: ") {
			line = l
			break
		}
	}
	return line[:min(len(line), 300)]
}

// run runs one test. red says that this test failed or the run broke down in it;
// an error, that it could not be run.
func (t *tree) run(ctx context.Context, w test) (red bool, output string, err error) {
	binary := filepath.Join(t.dir, "planted.test")
	if out, err := t.command(ctx, "test", "-c", "-o", binary, w.pkg).CombinedOutput(); err != nil {
		return false, "", fmt.Errorf("the tests of %s do not compile: %w\n%s", w.pkg, err, out)
	}
	limit, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(limit, binary, "-test.run=^"+w.name+"$", "-test.v", "-test.timeout=4m")
	cmd.Dir = filepath.Join(t.dir, w.pkg)
	out, err := cmd.CombinedOutput()
	text := string(out)
	switch {
	case ctx.Err() != nil:
		return false, text, ctx.Err()
	case !strings.Contains(text, "=== RUN   "+w.name):
		return false, text, fmt.Errorf("%s did not run: %w\n%s", w, err, text)
	case err == nil:
		return false, text, nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false, text, fmt.Errorf("run %s: %w", w, err)
	}
	return true, text, nil
}

func (t *tree) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = t.dir
	return cmd
}
