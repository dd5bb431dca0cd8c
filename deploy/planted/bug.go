package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bug is one file of deploy/planted/bugs:
//
//	# what it is and what it would cost, in any number of lines
//	test ./package TestName
//	file path/of/a/file.go
//	<<<<
//	lines that stand there
//	====
//	lines that stand there instead
//	>>>>
//
// with one or more edits, each under the file line before it. The lines to
// replace must stand in the file exactly once, wherever that is; blanks at the
// ends of lines do not count.
type bug struct {
	name  string
	test  test
	edits []edit
}

type test struct{ pkg, name string }

func (t test) String() string { return t.pkg + " " + t.name }

type edit struct {
	file     string
	old, new []string
}

func readBugs(dir string, names []string) ([]bug, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.bug"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no bugs in %s: %w", dir, err)
	}
	var bugs []bug
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".bug")
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read bug: %w", err)
		}
		b, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		b.name = name
		bugs = append(bugs, b)
	}
	for _, n := range names {
		if !slices.ContainsFunc(bugs, func(b bug) bool { return b.name == n }) {
			return nil, fmt.Errorf("no bug is called %s", n)
		}
	}
	return bugs, nil
}

func parse(text string) (b bug, err error) {
	const (
		outside = iota
		old
		replacement
	)
	state, file := outside, ""
	for i, line := range strings.Split(text, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case state == outside && line == "<<<<":
			b.edits = append(b.edits, edit{file: file})
			state = old
		case state == old && line == "====":
			state = replacement
		case state == replacement && line == ">>>>":
			state = outside
		case state == old:
			e := &b.edits[len(b.edits)-1]
			e.old = append(e.old, line)
		case state == replacement:
			e := &b.edits[len(b.edits)-1]
			e.new = append(e.new, line)
		case word == "test":
			var ok bool
			if b.test.pkg, b.test.name, ok = strings.Cut(rest, " "); !ok {
				return b, fmt.Errorf("line %d: a test is a package and a name", i+1)
			}
		case word == "file":
			file = rest
		case line != "" && word != "#":
			return b, fmt.Errorf("line %d: %q is not understood", i+1, line)
		}
	}
	if state != outside || b.test.name == "" || len(b.edits) == 0 {
		return b, errors.New("a test, a file and a whole edit are needed")
	}
	for _, e := range b.edits {
		if e.file == "" || len(e.old) == 0 {
			return b, errors.New("an edit has no file, or nothing to replace")
		}
	}
	return b, nil
}

// apply returns text with the edit made.
func (e *edit) apply(text string) (string, error) {
	lines := strings.Split(text, "\n")
	at := -1
	for i := 0; i+len(e.old) <= len(lines); i++ {
		if !slices.EqualFunc(lines[i:i+len(e.old)], e.old, func(x, y string) bool { return strings.TrimSpace(x) == strings.TrimSpace(y) }) {
			continue
		}
		if at >= 0 {
			return "", fmt.Errorf("%s: the lines to replace stand there twice, at %d and %d", e.file, at+1, i+1)
		}
		at = i
	}
	if at < 0 {
		return "", fmt.Errorf("%s: the lines to replace do not stand there; bring the bug up to date", e.file)
	}
	return strings.Join(slices.Concat(lines[:at], e.new, lines[at+len(e.old):]), "\n"), nil
}
