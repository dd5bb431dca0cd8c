// Package decisions reads and writes the decisions topic of a namespace: which process holds which partition of its
// log, and what was decided of the records.
//
// A namespace whose log other processes share has a decisions topic, which has the partitions of the log. A process
// that holds a partition says so by a claim: an entry of that topic, with the address at which others ask it. The newest
// claim counts, and its offset is its epoch. Example: worker A claims partition 3 and gets epoch 7; worker B claims it
// later and gets epoch 9; whoever asks A by epoch 7 is refused from the moment that A has read 9, and finds B in its own
// Book.
//
// Of stores that other processes may go on with, the holder says what it has decided by marks. Example: by epoch 9, of the
// records 10 to 19, that 12 failed its condition; the others did what they say. A mark counts when its epoch is that of the
// newest claim before it and its range begins where that of the last mark that counts ended.
//
// # What it guarantees
//
// All who read the topic see the same claims and the same marks that count, in the same order, also who begins at a place
// that Free has left. A claim that Append returned an epoch for is durable. What Marks.Decide returned nil for is read by
// each later holder, and each record is decided once, whoever takes itself for the holder. A Book that cannot read on keeps
// what it knows, tries again without an end, and says why in Err.
//
// # What it does not
//
// It does not choose who holds a partition, and a claim keeps nobody from deciding what counts for nobody: whoever has
// decided waits for Decide before anything of it has an effect. It does not know what the rows of a mark mean.
package decisions
