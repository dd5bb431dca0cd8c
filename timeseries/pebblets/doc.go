// Package pebblets is the store of a time-series namespace on Pebble.
//
// # What it guarantees
//
// What timeseries.Store asks for. Adding an event reads nothing: Pebble merges the items
// of one identity when they are read or compacted, and of two with one key the first
// holds. Dropping a slice costs the same whatever it holds. After a crash a partition is as
// of some commit, with everything before it.
//
// # What it does not
//
// It has no index on items: a filter looks at every event of its series and interval.
//
// # Keys
//
// A table and a partition (2 bytes) begin every key; beside those of pebblestore:
//
//	'e'  slice start | series length (2) | series | time | id    items, as timeseries.AppendItems writes them
//	'n'  series                                                  nothing: the series may have events
//	'l'  slice start                                             end (8) | event buckets (uvarint)
//
// Starts and ends are 8 bytes big-endian with the sign bit flipped, so that they sort; the
// time of an event is that with every bit flipped, so that the newest comes first.
package pebblets
