// Command bench measures Headwater against its peers and its bars: `go run
// ./bench`, or `make bench`. What it measures, and the last results, are in
// README.md beside it.
//
// How it measures: the peer and the subject take turns in one run on the same
// machine (A B A B ...), never two loads at once, and the result is the median
// of five such turns. Ratios are the result; absolute numbers depend on the
// machine and only colour them. Other work on the machine makes a turn worth
// little, so the harness notes how much CPU processes other than its own took
// meanwhile, repeats turns that were disturbed (up to -repeats), keeps the
// quietest five, and says what the disturbance of those was. It chooses by that
// alone, never by the result.
//
// What it does not do: it does not tune either side beyond what is said in the
// row's note, drop the page cache between turns, or measure more than one
// machine. It exits with 1 when a measure could not be made, and with 0 when a
// bar is missed, unless -strict is given: a miss is a finding, not a failure of
// the harness.
package main
