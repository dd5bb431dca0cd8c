// Package durable is consumers with a name, whose place in a namespace's log Headwater keeps: what they have fetched,
// acknowledged, and are to get again. Any number of callers share one. Example: of the messages 1 to 5, caller A is
// handed 1 and 2, caller B 3; A acknowledges 2 and dies, so 1 is handed out again when its time is over.
//
// # What it guarantees
//
// A record is handed out until it is acknowledged or given up: at least once, whatever is restarted meanwhile. What
// Ack has answered is durable, and is not handed out again by any process that opens the partition later.
//
// The records of a key are handed out in order. The next one comes after the end of the one before, or in the same
// fetch. One that waits for its time, after a Nak, holds its key and no other.
//
// Nothing is handed out that its namespace has not decided: see Config.Judge and Config.Progress.
//
// A record that is given up, by Term or after too many attempts, has a dead letter before that is written down. Revive hands
// it out again.
//
// # What it does not
//
// A consumer keeps nothing in the log: what is trimmed before it comes there is counted as missed. How often a record
// was handed out is written down with the next acknowledgement; a process that is killed before may count from less.
// Two processes of which one does not know yet that it has lost the partition may hand out the same record both.
//
// # Format
//
// The states are records of wal.KindConsumer in a topic of their own, which has the partitions of the log. The payload
// is the JSON of one consumer in one partition; see state. The last record of who has opened the
// partition last counts, and what another one has written since, which did not know of that, is done too.
package durable
