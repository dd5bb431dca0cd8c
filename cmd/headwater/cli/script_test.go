package cli

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/client/clienttest"
)

// leakChecked fails a run that leaves goroutines behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"headwater": func() {
			root := &cobra.Command{Use: "headwater"}
			AddCommands(root)
			os.Exit(Main(context.Background(), root))
		},
		// code runs a command and fails unless its exit code is the first argument.
		"code": func() { os.Exit(code(os.Args[1:])) },
	})
}

// TestScripts runs the sessions of testdata/script, all against one server; each
// works on records and namespaces of its own.
func TestScripts(t *testing.T) {
	s, _ := clienttest.NewServer(t, clienttest.Config{})
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HEADWATER_ADDRESS", s.GRPCAddr())
			return nil
		},
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		RequireExplicitExec: true,
	})
}
