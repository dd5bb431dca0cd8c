// Package enginetest tells tests which real servers they may use: those that deploy/engines has
// started and .engines/env names.
//
// A test that needs one is skipped without it. It fails instead where HEADWATER_REQUIRE_ENGINES,
// a list by commas, names the engine, as in CI.
package enginetest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Need returns the value of an environment variable of an engine. It ends the test where that is
// not set.
func Need(t testing.TB, variable, engine string) string {
	t.Helper()
	if v := os.Getenv(variable); v != "" {
		return v
	}
	if slices.Contains(strings.Split(os.Getenv("HEADWATER_REQUIRE_ENGINES"), ","), engine) {
		t.Fatalf("%s is not set, and HEADWATER_REQUIRE_ENGINES names %s", variable, engine)
	}
	t.Skipf("no real %s: %s is not set", engine, variable)
	return ""
}
