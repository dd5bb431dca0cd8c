//go:build race

package proof

// raceFlags build the binary with the race detector, where the tests have it.
var raceFlags = []string{"-race"}
