// Package demo is `headwater demo`: it loads real flights through the public API,
// reads every one of them back, and reports what it read.
//
// One record per airport of origin, one item per flight, keyed by departure and
// row number, so that a record reads in the order of time. The row number is in
// the key because departure, origin and destination alone repeat.
//
// Every flight is counted as well, in a namespace of counters: its origin,
// destination, route and hour of day. What is read back is compared with a plain
// pass over the file.
//
// `headwater demo delivery` writes the flights as messages, which the server brings to an HTTP receiver in this process: one
// that fails, goes away, and refuses a flight until it is mended. Deliver returns without an error only when each flight
// arrived, those of each route in order, and no message that was written for later came before its time.
//
// `headwater demo crash` does not use the server that the others do: it starts its
// own in a temporary directory, loses answers on their way, kills it, deletes its
// store under readers, and reports what became of the counts; beside Redis where
// there is one. Crash tests in the package proof say what must hold; this shows it.
//
// # What it guarantees
//
// A load sends the same batches under the same tokens each time, made from the
// rows themselves. Started again after a crash of the server or of itself, it
// completes what is missing; a batch that was acknowledged before, at most a token
// window ago, changes nothing. Load returns without an error only when every
// batch was acknowledged, and Read only when every row was read back and equals
// its source. CountFlights counts a flight once, however often and however much
// later it is called: each call adds to a marker too, and what has its marker is
// not sent. The embedded log takes the parts of such a call, one for each
// partition, in one write; where a log took the marker's part and not another
// and the load never came back to finish the call, ReadCounts tells. ReadCounts returns without an
// error only when every counter holds what the flights add up to, beside what was
// there before that is not theirs.
//
// # What it does not
//
// It removes nothing. Items that something else wrote to the same records stay,
// and are counted apart. After the token window a repeated load writes the same
// items again, which changes their versions and not their values. The source is
// held in memory: at most MaxRows rows.
package demo
