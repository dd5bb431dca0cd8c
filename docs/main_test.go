// Package docs tests the documentation: every command in README.md and docs/*.md is
// run against the real binary and its output compared, every table that lists codes,
// metrics or source is compared with the code, every link leads somewhere.
//
// A block marked `console` is a session: lines after "$ " (continued by "> ") are
// typed into a shell in an empty directory, what follows them is their output. "..."
// stands for any text in a line, and alone on a line for any lines. The addresses of
// `headwater dev` are replaced by those of a server on free ports. Words after
// `console` change that:
//
//	server        the command is a server: it goes on running, and the session after it talks to it
//	gateway       the command is a server, as server is; workers run beside it
//	worker        the command is a worker, which runs to the end of the page
//	poisoned      before the server starts, a record that cannot be applied is put into its log
//	kafka         the brokers that the server's command names are a stand-in for Kafka, one for the page
//	copied        before the server starts, headwater-data is copied to copy
//	repo          the commands run in the root of the repository
//	not-executed  the commands are only read; notExecuted in this package says why
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/headwater-db/headwater/cmd/headwater/servertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := servertest.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const root = ".."

// pages are the documents that users read.
func pages(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there are no pages in docs")
	}
	return append(all, filepath.Join(root, "README.md"))
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
