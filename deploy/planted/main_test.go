package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBugsApply keeps the bugs in step with the code: each can be planted in the
// tree as it is. Whether its test finds it is for `make planted` to say.
func TestBugsApply(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	bugs, err := readBugs("bugs", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bugs {
		for _, e := range b.edits {
			text, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				t.Fatal(err)
			}
			if out, err := e.apply(string(text)); err != nil {
				t.Errorf("%s: %v", b.name, err)
			} else if out == string(text) {
				t.Errorf("%s: %s is as before", b.name, e.file)
			}
		}
	}
}

func TestParseAndApply(t *testing.T) {
	b, err := parse("# why\ntest ./x TestX\nfile a.go\n<<<<\n\tb()\n====\n\tc()\n\td()\n>>>>\n")
	if err != nil || b.test != (test{"./x", "TestX"}) || len(b.edits) != 1 {
		t.Fatalf("%+v, %v", b, err)
	}
	if got, err := b.edits[0].apply("a()\n    b()\ne()"); err != nil || got != "a()\n\tc()\n\td()\ne()" {
		t.Errorf("%q, %v", got, err)
	}
	for text, want := range map[string]string{"a()": "do not stand there", "b()\nb()": "twice"} {
		if _, err := b.edits[0].apply(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "test ./x TestX\n", "test ./x TestX\nfile a\n<<<<\nb\n====\n", "test ./x TestX\n<<<<\nb\n====\n>>>>\n", "nonsense\n"} {
		if b, err := parse(text); err == nil {
			t.Errorf("%q parses as %+v", text, b)
		}
	}
}
