package proof

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// theBinary is the real headwater, built once for all tests that need it.
var theBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "headwater-proof")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "headwater")
	args := append(append([]string{"build"}, raceFlags...), "-o", path, "github.com/headwater-db/headwater/cmd/headwater")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build headwater: %w\n%s", err, out)
	}
	return path, nil
})

var binaryDir string

func TestMain(m *testing.M) {
	flag.Parse()
	programs := "30"
	if long() {
		programs = "400"
	}
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", programs); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if binaryDir != "" {
		if err := os.RemoveAll(binaryDir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if code == 0 {
		// A session of gocql that hears of a change of the schema waits for the nodes to agree, also when it is closed.
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/gocql/gocql.(*Conn).awaitSchemaAgreement")); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left over:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// long reports whether the long mode is asked for.
func long() bool { return os.Getenv("HEADWATER_LONG") != "" }

// mustHave says that a load met what the test is there for, such as a refusal. What a random load meets depends on its
// seed and on how fast this machine is, so one that met none fails the long mode alone, which has time for all of it.
func mustHave(t *testing.T, met bool, what string) {
	t.Helper()
	if met {
		return
	}
	if long() {
		t.Errorf("this run met no %s", what)
		return
	}
	t.Logf("this run met no %s; the long mode must", what)
}

// seedOf returns the seed of this run and a source of randomness made from it.
func seedOf(t *testing.T) (uint64, *rand.Rand) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HEADWATER_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HEADWATER_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("seed %d; HEADWATER_SEED=%d runs it again", seed, seed)
	return seed, rand.New(rand.NewPCG(seed, 0))
}
