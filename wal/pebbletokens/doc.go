// Package pebbletokens is the token table of a store on Pebble: what is kept of
// each token, found by its identity for as long as the token window lasts. The table
// lies in the store's own Pebble instance, so that an entry is committed together
// with the effect that its token had. A store says what an entry holds; here it
// is bytes.
//
// # What it guarantees
//
//   - An entry is found from the moment that the Pebble batch which carries it is
//     applied, until the whole bucket that it is in is evicted. Never is an identity
//     that is in the table reported as never seen.
//   - An identity that was never seen costs no I/O, but for one look-up in 200 or so:
//     each bucket has a Bloom filter in memory. All filters together stay within
//     Config.FilterBytes; a bucket whose filter finds no memory, and one that was
//     written by an earlier process and is not read back yet, is looked up in
//     Pebble. The answer is the same.
//   - Adding costs no read and no copy of the value, and looking up takes no lock.
//   - Eviction is one range deletion for a bucket, whatever is in it.
//   - Opening scans nothing: the list of buckets is part of what the store saves
//     with each commit. One goroutine reads the entries back into filters.
//
// # What it does not
//
// It commits nothing: entries, evictions and the list of buckets go into batches
// of the caller's, who applies them and says so. It has no clock: log time is a
// number of microseconds that the caller gives. It does not look for an entry of
// the same identity that is there already: two entries of one identity and bucket are
// one, the later; in different buckets they are two, and a look-up shows both. How
// many entries are live is about right: an identity that was added twice counts
// twice.
//
// # Concurrency and order
//
// Everything of a Table may be called at any time by any goroutine, but for New,
// Load and Rebuild, which come first and in this order. A Change belongs to one
// goroutine at a time. It may be handed on: one goroutine fills the next Change of
// a partition while another applies the batch of the one before and ends it, and
// others look up and evict.
//
// One rule is the caller's: batches that carry AppendState of one partition are
// applied in the order of the calls of AppendState. The list that is saved
// last is the one that the next process knows, and a bucket that is not in it
// would not be found.
//
// # A commit
//
//	c := t.NewChange(p)             // once; used again after Committed or Discard
//	op := c.Add(b, &id, logTime, len(value))
//	copy(op.Value, value)
//	err := op.Finish()              // before anything else is put into b
//	...                             // more of Add; the changes they stand for
//	state, err = c.AppendState(state)
//	err = b.Set(stateKey, state, nil)
//	err = db.Apply(b, pebble.NoSync)
//	c.Committed()                   // or c.Discard(), when it may not be there
//
// # Format
//
// Integers are big-endian. T is Config.Table, p the partition in two bytes.
//
//	T p start(8) exponent(1) identity(16)   an entry: the value, as the caller wrote it
//
// A bucket holds the entries with start <= log time < start + 2^exponent
// microseconds. AppendState writes n (2) and n times start (8), exponent (1),
// entries (8).
//
// # Why it is so
//
// Entries that are keyed by identity alone would be evicted one delete at a time,
// which doubles the cost of a write. A bucket is an eighth of the window or less,
// so an entry is freed at most that much after the window, and a look-up asks
// some ten filters. A filter is a split block Bloom filter of 12 bits an entry
// that grows by segments, since nobody knows how many entries a bucket will have.
// A commit should add its entries sorted by identity (see Order): the memtable takes
// neighbours at about half the cost of strangers.
package pebbletokens
