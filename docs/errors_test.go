package docs

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/api/apierrors"
)

var update = flag.Bool("update", false, "write errors.md anew")

const errorsHead = `# Errors

Every error has a code that keeps its meaning for ever. The command line prints it at the end of the message, HTTP has it as ` + "`reason`" + ` in the body
and in the header ` + "`Headwater-Reason`" + `, gRPC as
` + "`ErrorInfo.reason`" + `. "Retry" is the hint that comes with the error by default; where there is none, the same request fails again until something is changed.

A write's error also has an outcome. ` + "`NOT_APPLIED`" + `: it is not in the log and will not come to be. ` + "`UNKNOWN`" + `: it may have happened; send it again with the same token,
which the error carries, to know.

The outcome is that of the copy of the request that got the error, not of those before it. A copy that is shed before its token is looked up (a rate limit, HW-1402; a namespace that
reads its log, HW-1505; a server that shuts down, HW-1506; any other refusal that a retry helps against) is ` + "`NOT_APPLIED`" + `, although an earlier copy, whose answer was ` + "`UNKNOWN`" + ` or never
came, may have been taken. The Go client sends copies by itself. If you send them yourself, an outcome stays unknown until a copy succeeds, which then says ` + "`duplicate: YES`" + `, or is refused for
what it met when its turn in the log came (HW-1201, HW-1202; for counters also an overflow, or what became of a reservation).

Over HTTP the id of the request is ` + "`requestId`" + ` and in the header ` + "`X-Request-Id`" + `; over gRPC it is ` + "`requestId`" + ` in the metadata of ` + "`ErrorInfo`" + `. It is in the server's log.

` + "```console" + `
$ curl -sS -X PUT -d x http://127.0.0.1:7080/v1/kv/nowhere/id/key
{"code":"not_found","message":"namespace nowhere does not exist; create it with ` + "`headwater namespace apply`" + `","reason":"HW-1101","outcome":"NOT_APPLIED","token":...,"requestId":"...","metadata":{},"details":[]}
$ headwater kv get nowhere id key; echo "exit code $?"
error: namespace nowhere does not exist; create it with ` + "`headwater namespace apply`" + ` (HW-1101)
exit code 3
` + "```" + `

Exit codes of the command line: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict of tokens, conditions or versions, an add that a bound rejects, or less to reserve of than was asked, 5 unavailable or overloaded.

This page is made from api/apierrors/reasons.go by ` + "`go test ./docs -run Errors -update`" + `.
`

// classes are the headings, by the third character of a code's number.
var classes = []struct{ prefix, title string }{
	{"HW-10", "The request is at fault"},
	{"HW-11", "Not there, or not of that kind"},
	{"HW-12", "Conflicts with what is there"},
	{"HW-13", "The key or the position cannot be served as asked"},
	{"HW-14", "Overload and limits"},
	{"HW-15", "The server's state is at fault"},
	{"HW-16", "Who is asking"},
	{"HW-19", "The server is at fault"},
}

func errorsPage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(errorsHead)
	listed := 0
	for _, c := range classes {
		fmt.Fprintf(&b, "\n## %s\n\n| Code | HTTP | gRPC | Retry | What happened | What to do |\n|---|---|---|---|---|---|\n", c.title)
		for _, r := range apierrors.Reasons() {
			if !strings.HasPrefix(r.ID, c.prefix) {
				continue
			}
			listed++
			retry := "-"
			if r.RetryAfter > 0 {
				retry = "after " + r.RetryAfter.String()
			}
			fmt.Fprintf(&b, "| %s | %d | `%s` | %s | %s | %s |\n", r.ID, apierrors.New(r.ID, "").HTTPStatus(), apierrors.CodeName(r.Code), retry, r.Title, r.Do)
		}
	}
	if all := len(apierrors.Reasons()); listed != all {
		t.Errorf("%d of %d codes have a class of this page", listed, all)
	}
	return b.String()
}

func TestErrorsPageIsTheTable(t *testing.T) {
	t.Parallel()
	want := errorsPage(t)
	if *update {
		if err := os.WriteFile("errors.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := readPage(t, "errors.md"); got != want {
		t.Error("errors.md is not what the table of codes says; run go test ./docs -run Errors -update")
	}
}
